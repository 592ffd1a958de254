//! Exports with `append=true`, which write one archive or layout: it gets the images of all of them, in one piece.
//!
//! Each export of a group comes when all builds of the group are done (`dispatch` sees to that) and waits; the last one that comes
//! writes for all. So there is never an archive with some of its images, and one receipt says whether it is still there. A layout
//! folder keeps the images that were in it and have other names.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::{
    image::still_there,
    job::{ImageBytes, ImageJob, sizes},
    layout::LayoutJoin,
    stage::{ReleaseRecord, StagedExport, Stamped},
};
use crate::{
    export::{
        assemble::AssembledImage,
        built::BuiltImage,
        context::{ExportContext, ExportReceipt},
        options::{ImagePlan, ImageTo},
        prepare::PreparedExport,
        remember::{self, FileStamp, StoredReceipt},
    },
    grant::GrantedWrite,
    oci::{Digest, digest::FieldHasher},
    report::Diagnostic,
};

/// The place of one export in a group that writes together.
#[derive(Clone, Debug)]
pub(crate) struct JointExport {
    group: Arc<JointGroup>,
    /// Its position in the group.
    ix: usize,
}

/// The exports of a group that have come.
struct JointGroup {
    n_members: usize,
    arrived: Mutex<Vec<Arrival>>,
}

impl std::fmt::Debug for JointGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JointGroup({})", self.n_members)
    }
}

struct Arrival {
    ix: usize,
    member: JointMember,
    answer: oneshot::Sender<Result<ExportReceipt, Diagnostic>>,
}

/// One export of a group, with what it is made of.
pub(crate) struct JointMember {
    prepared: PreparedExport,
    plan: ImagePlan,
    builds: Vec<BuiltImage>,
    context: ExportContext,
}

/// A group of so many exports that write to one destination; one alone is a group too.
pub(crate) fn joint_group(n_members: usize) -> impl Iterator<Item = JointExport> {
    let group = Arc::new(JointGroup { n_members, arrived: Mutex::default() });
    (0..n_members).map(move |ix| JointExport { group: group.clone(), ix })
}

impl JointMember {
    pub(crate) fn new(
        prepared: &PreparedExport,
        plan: &ImagePlan,
        builds: &[BuiltImage],
        context: &ExportContext,
    ) -> Self {
        Self { prepared: prepared.clone(), plan: plan.clone(), builds: builds.to_owned(), context: context.clone() }
    }

    fn job(&self) -> ImageJob<'_> {
        ImageJob { prepared: &self.prepared, plan: &self.plan, builds: &self.builds, context: &self.context }
    }
}

impl JointExport {
    /// Writes the archive or layout if this is the last export of the group, else waits for it.
    ///
    /// # Errors
    /// The first fault of the group; every export of it gets that.
    pub(crate) async fn export(&self, member: JointMember, to: &ImageTo) -> Result<ExportReceipt, Diagnostic> {
        match self.arrive(member) {
            Arrived::Waiting(member, answer) => answer.await.unwrap_or_else(|_| Err(gone(&member))),
            Arrived::Last(group) => {
                let written = JointWork::new(&group, to).export().await;
                group.answer(self.ix, written)
            }
        }
    }

    /// As [`Self::export`], but nothing becomes visible: all that is staged is that of the last export.
    pub(crate) async fn stage(&self, member: JointMember, to: &ImageTo) -> Result<StagedExport, Diagnostic> {
        match self.arrive(member) {
            Arrived::Waiting(member, answer) => {
                answer.await.unwrap_or_else(|_| Err(gone(&member))).map(StagedExport::nothing)
            }
            Arrived::Last(group) => {
                let (staged, receipts) = match JointWork::new(&group, to).stage().await {
                    Ok((staged, receipts)) => (Some(staged), Ok(receipts)),
                    Err(fault) => (None, Err(fault)),
                };
                let receipt = group.answer(self.ix, receipts)?;
                Ok(staged.map_or_else(
                    || StagedExport::nothing(receipt.clone()),
                    |staged| StagedExport { receipt: receipt.clone(), ..staged },
                ))
            }
        }
    }

    fn arrive(&self, member: JointMember) -> Arrived {
        let (answer, wait) = oneshot::channel();
        let prepared = Box::new(member.prepared.clone());
        let mut arrived = self.group.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.push(Arrival { ix: self.ix, member, answer });
        if arrived.len() < self.group.n_members {
            return Arrived::Waiting(prepared, wait);
        }
        let mut all = std::mem::take(&mut *arrived);
        all.sort_by_key(|arrival| arrival.ix);
        Arrived::Last(Group(all))
    }
}

enum Arrived {
    Waiting(Box<PreparedExport>, oneshot::Receiver<Result<ExportReceipt, Diagnostic>>),
    Last(Group),
}

/// All exports of a group, in its order.
struct Group(Vec<Arrival>);

impl Group {
    /// Tells every export what became of it; the result is that of the export at `own`.
    fn answer(self, own: usize, written: Result<Vec<ExportReceipt>, Diagnostic>) -> Result<ExportReceipt, Diagnostic> {
        let mut result = None;
        for (nth, Arrival { ix, answer, .. }) in self.0.into_iter().enumerate() {
            let of_this = written.as_ref().map(|receipts| receipts[nth].clone()).map_err(Clone::clone);
            if ix == own {
                result = Some(of_this);
            } else {
                // One that is gone asks for nothing.
                let _is_there = answer.send(of_this);
            }
        }
        result.expect("an export belongs to its group")
    }
}

/// The fault of an export whose group was given up.
fn gone(prepared: &PreparedExport) -> Diagnostic {
    prepared.fault("bake::export::write", "what it writes together with other targets was given up")
}

/// The work of a group whose exports have all come.
struct JointWork<'a> {
    jobs: Vec<ImageJob<'a>>,
    to: &'a ImageTo,
    place: Option<&'a GrantedWrite>,
    /// Of what is written, where it can be recognised.
    key: Option<Digest>,
}

impl<'a> JointWork<'a> {
    fn new(group: &'a Group, to: &'a ImageTo) -> Self {
        let jobs: Vec<ImageJob<'_>> = group.0.iter().map(|arrival| arrival.member.job()).collect();
        let place = group.0[0].member.prepared.place.as_ref();
        let key = place.map(|place| {
            let mut hasher = FieldHasher::new("joint/1");
            for job in &jobs {
                hasher.digest(&remember::key(job.prepared, job.builds, place.path()));
            }
            hasher.finish()
        });
        Self { jobs, to, place, key }
    }

    /// The export that speaks for the group.
    fn lead(&self) -> &ImageJob<'a> {
        &self.jobs[0]
    }

    async fn export(&self) -> Result<Vec<ExportReceipt>, Diagnostic> {
        if let Some(done) = self.is_written_already() {
            return Ok(done);
        }
        let (writing, receipts) = self.assembled().await?;
        let blobs: Vec<(Digest, u64)> = writing.sizes.iter().map(|(digest, size)| (*digest, *size)).collect();
        let (stamp, bytes) = match (self.to, self.place) {
            (ImageTo::Layout { .. }, Some(folder)) => {
                self.lead().put_layout(writing, folder, LayoutJoin::Sweep).await?
            }
            _ => self.lead().put_archive(writing).await?,
        };
        if let (Some(key), Some(place), Some(stamp)) = (self.key, self.place, stamp) {
            let kept = self.stored(Some(stamp), blobs, bytes, &receipts);
            remember::keep(&self.lead().context.store, &key, place.path(), kept);
        }
        self.lead().wrote(&self.lead().shown(), bytes, false);
        Ok(receipts)
    }

    async fn stage(&self) -> Result<(StagedExport, Vec<ExportReceipt>), Diagnostic> {
        if let Some(done) = self.is_written_already() {
            return Ok((StagedExport::nothing(ExportReceipt::default()), done));
        }
        let (writing, receipts) = self.assembled().await?;
        let blobs: Vec<(Digest, u64)> = writing.sizes.iter().map(|(digest, size)| (*digest, *size)).collect();
        let (parts, stamped, bytes) = match (self.to, self.place) {
            (ImageTo::Layout { .. }, Some(folder)) => {
                let (parts, bytes) = self.lead().put_staged_layout(writing, folder, LayoutJoin::Sweep).await?;
                (parts, Some(Stamped::Layout), bytes)
            }
            _ => {
                let (parts, file, bytes) = self.lead().put_staged_archive(writing).await?;
                (parts, file.map(Stamped::File), bytes)
            }
        };
        let record = match (self.key, self.place, stamped) {
            (Some(key), Some(place), Some(stamped)) => {
                let receipt = self.stored(None, blobs, bytes, &receipts);
                Some(ReleaseRecord { key, receipt, place: Some((place.clone(), stamped)) })
            }
            _ => None,
        };
        let wrote = vec![(self.lead().shown(), bytes)];
        Ok((StagedExport { parts, wrote, receipt: ExportReceipt::default(), record }, receipts))
    }

    /// The receipts of an earlier run that wrote the same, if that is still there.
    fn is_written_already(&self) -> Option<Vec<ExportReceipt>> {
        let (place, is_layout) = (self.place?, matches!(self.to, ImageTo::Layout { .. }));
        let found = remember::find(&self.lead().context.store, &self.key?)?;
        if !still_there(&found, place, is_layout) {
            return None;
        }
        let receipts: Option<Vec<ExportReceipt>> = self
            .jobs
            .iter()
            .enumerate()
            .map(|(nth, job)| {
                let kept = found.metadata.get(&nth.to_string())?;
                let (metadata, bytes) = (kept["metadata"].as_object()?.clone(), kept["bytes"].as_u64()?);
                Some(ExportReceipt { metadata, warnings: job.warnings(), bytes })
            })
            .collect();
        if receipts.is_some() {
            self.lead().wrote(&self.lead().shown(), found.bytes, true);
        }
        receipts
    }

    /// Packs and assembles all images; also their receipts, in the order of the group.
    async fn assembled(&self) -> Result<(ImageBytes, Vec<ExportReceipt>), Diagnostic> {
        let is_docker = matches!(self.to, ImageTo::Archive { docker: true, .. });
        let (mut writing, mut receipts) = (Vec::new(), Vec::new());
        for job in &self.jobs {
            let image: AssembledImage = job.assembled().await?;
            match (self.to, self.place) {
                (ImageTo::Layout { .. }, Some(folder)) => job.fetch_for(folder, &image).await?,
                _ => job.fetch(&image.blobs).await?,
            }
            let mut receipt = job.receipt(&image);
            receipt.bytes = sizes(&image).values().sum();
            receipt.warnings.extend(job.warnings());
            receipts.push(receipt);
            writing.push(ImageBytes::new(job, image, is_docker));
        }
        Ok((ImageBytes::joined(writing), receipts))
    }

    /// What is remembered: the metadata and the size of each image, by its position in the group.
    fn stored(
        &self,
        stamp: Option<FileStamp>,
        blobs: Vec<(Digest, u64)>,
        bytes: u64,
        receipts: &[ExportReceipt],
    ) -> StoredReceipt {
        let is_layout = matches!(self.to, ImageTo::Layout { .. });
        let one = |(nth, receipt): (usize, &ExportReceipt)| -> (String, Value) {
            (nth.to_string(), json!({"metadata": receipt.metadata, "bytes": receipt.bytes}))
        };
        let metadata: Map<String, Value> = receipts.iter().enumerate().map(one).collect();
        let blobs = if is_layout { blobs } else { Vec::new() };
        StoredReceipt { stamp, fingerprint: None, blobs, bytes, metadata, dropped: None }
    }
}
