//! One item of a release becomes visible. Everything here can be repeated.

use tokio::task::spawn_blocking;

use super::place::{place_file, place_folder};
use crate::{
    export::{
        context::{ReleaseContext, with_causes},
        staged::{ReleaseItem, StagedName},
        write::send_to_engine,
    },
    registry::{Document, NameTarget},
    store::Journal,
};

/// What has become of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ItemOutcome {
    Visible,
    /// It will not become visible any more, and why.
    GivenUp(String),
}

/// Who makes an item visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemActor {
    /// The process that staged it.
    Release,
    /// A later process: what others have put in its place meanwhile stays.
    Recovery,
}

/// Makes an item visible.
///
/// # Errors
/// The words of the system or the registry: it can be tried again.
pub(super) async fn make_visible(
    item: &ReleaseItem,
    actor: ItemActor,
    journal: &Journal,
    context: &ReleaseContext,
) -> Result<ItemOutcome, String> {
    let placed = match item {
        ReleaseItem::File(_) | ReleaseItem::Folder(_) if !journal.is_of_this_boot => {
            let why = "the machine was started anew meanwhile, and its content may not have reached the disk";
            return Ok(ItemOutcome::GivenUp(why.to_owned()));
        }
        ReleaseItem::File(file) => {
            let file = file.clone();
            spawn_blocking(move || place_file(&file)).await
        }
        ReleaseItem::Folder(folder) => {
            let folder = folder.clone();
            spawn_blocking(move || place_folder(&folder)).await
        }
        ReleaseItem::Load(load) => {
            let options = context.client.options();
            let sent = send_to_engine(options, load.context.as_deref(), &journal.file(&load.archive)).await;
            return sent.map(|_| ItemOutcome::Visible);
        }
        ReleaseItem::Name(name) => return set_name(name, actor, context).await,
    };
    placed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Where a name is set.
pub(super) fn name_target(name: &StagedName) -> NameTarget<'_> {
    NameTarget { domain: &name.domain, path: &name.path, tag: name.tag.as_deref(), insecure: name.insecure }
}

/// Sets a tag, or pushes a root that has none.
async fn set_name(name: &StagedName, actor: ItemActor, context: &ReleaseContext) -> Result<ItemOutcome, String> {
    let target = name_target(name);
    if actor == ItemActor::Recovery && name.tag.is_some() {
        let now = context.client.meaning(&target).await.map_err(|error| with_causes(&error))?;
        match now {
            Some(now) if now == name.digest => return Ok(ItemOutcome::Visible),
            Some(now) if Some(now) != name.before => {
                return Ok(ItemOutcome::GivenUp(format!("the tag was set to {now} by somebody else meanwhile")));
            }
            _ => (),
        }
    }
    let document = Document {
        digest: name.digest,
        media_type: name.media_type.clone(),
        bytes: name.document.clone().into_bytes(),
    };
    match context.client.set_name(&target, &document).await {
        Ok(()) => Ok(ItemOutcome::Visible),
        Err(error) if actor == ItemActor::Recovery && error.is_refusal() => {
            Ok(ItemOutcome::GivenUp(with_causes(&error)))
        }
        Err(error) => Err(with_causes(&error)),
    }
}
