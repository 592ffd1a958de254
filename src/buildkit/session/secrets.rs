//! Secrets for steps: `moby.buildkit.secrets.v1.Secrets`.

use async_trait::async_trait;
use tonic::Status;

use super::call::{Answers, Call, one};

/// Where secrets come from.
#[async_trait]
pub(crate) trait SecretSource: Send + Sync {
    /// The value of a secret; `None` if there is none of this id.
    ///
    /// # Errors
    /// It cannot be read: a clause that says why, without the value.
    async fn get(&self, id: &str) -> Result<Option<Vec<u8>>, String>;
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SecretRequest {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct SecretAnswer {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) data: Vec<u8>,
}

impl std::fmt::Debug for SecretAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Gives a secret. One that is missing is `NotFound`: the daemon decides whether the step needs it.
pub(super) async fn get(source: Option<&dyn SecretSource>, call: Call) -> Result<Answers, Status> {
    let SecretRequest { id } = call.only().await?;
    let missing = || Status::not_found(format!("there is no secret {id}"));
    let source = source.ok_or_else(missing)?;
    match source.get(&id).await {
        Ok(Some(data)) => Ok(one(&SecretAnswer { data })),
        Ok(None) => Err(missing()),
        Err(why) => Err(Status::failed_precondition(format!("secret {id}: {why}"))),
    }
}
