//! Reflection (v1, and v1alpha for older grpcurl), with the contract's comments and the types of the error details, so that
//! tools can show both.

use tonic::service::Routes;
use tonic_reflection::server::Builder;

use super::methods::DESCRIPTOR_SETS;
use crate::error::{Error, Result};

/// Adds both versions to `routes`. INTERNAL where the descriptors contradict each other.
pub fn add_to(routes: Routes) -> Result<Routes> {
    let v1 = builder().build_v1().map_err(unusable)?;
    let v1alpha = builder().build_v1alpha().map_err(unusable)?;
    Ok(routes.add_service(v1).add_service(v1alpha))
}

fn builder() -> Builder<'static> {
    DESCRIPTOR_SETS
        .into_iter()
        .chain([tonic_types::pb::FILE_DESCRIPTOR_SET])
        .fold(
            Builder::configure(),
            Builder::register_encoded_file_descriptor_set,
        )
        .include_reflection_service(false)
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("the descriptors cannot be served").because(error)
}
