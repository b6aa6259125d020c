//! Says whether a token is active, to a caller that may judge it.

use crate::{
    authority::{
        Authority,
        caller::Caller,
        credentials::{Credential, Inactive},
    },
    clock::Timestamp,
    domain::{
        api_key::{self, ApiKeyToken},
        ids::SpaceId,
        jwt,
        permission::{self, PermissionSet},
    },
    error::Result,
};

/// What is asked about a token besides whether it is good.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// A token not meant for this audience is inactive; empty: the caller looks for itself.
    pub audience: String,
    /// A token lacking any of these is inactive.
    pub required_scopes: PermissionSet,
    /// From where the token was presented.
    pub client_address: String,
}

/// The verdict on one token, for this caller.
pub async fn introspect(
    authority: &Authority,
    caller: &Caller,
    token: &str,
    question: &Question,
    now: Timestamp,
) -> Result<Result<Credential, Inactive>> {
    let verdict = authority.judge(token, now).await?;
    let verdict = verdict.and_then(|good| {
        decide(caller, &good.credential, question)?;
        authority.note_use(&good, &question.client_address, now);
        Ok(good.credential)
    });
    authority
        .verdicts
        .count(token, verdict.as_ref().err().copied());
    match verdict {
        Ok(credential) => Ok(Ok(credential)),
        Err(inactive) => Ok(Err(tell(authority, caller, token, inactive).await?)),
    }
}

fn decide(caller: &Caller, credential: &Credential, question: &Question) -> Result<(), Inactive> {
    if !caller.sees(credential.space_id()) {
        return Err(Inactive::Unknown);
    }
    if !credential.allows_address(&question.client_address) {
        return Err(Inactive::AddressNotAllowed);
    }
    if !question.audience.is_empty() && !credential.is_meant_for(&question.audience) {
        return Err(Inactive::AudienceMismatch);
    }
    if !credential.scopes().contains_all(&question.required_scopes) {
        return Err(Inactive::ScopeMissing);
    }
    Ok(())
}

/// Only who may know learns why, and of a token of a space that it may not judge nothing at all.
async fn tell(
    authority: &Authority,
    caller: &Caller,
    token: &str,
    inactive: Inactive,
) -> Result<Inactive> {
    if !caller.scopes().contains(permission::TOKENS_EXPLAIN) {
        return Ok(Inactive::Unspecified);
    }
    if matches!(inactive, Inactive::Malformed | Inactive::Unknown) {
        return Ok(inactive);
    }
    let space = space_of(authority, token).await?;
    if space.is_some_and(|space| caller.sees(&space)) {
        Ok(inactive)
    } else {
        Ok(Inactive::Unknown)
    }
}

/// The space of a token that is ours, however dead it is.
async fn space_of(authority: &Authority, token: &str) -> Result<Option<SpaceId>> {
    if !api_key::has_form(token) {
        return Ok(jwt::claimed(token).map(|token| token.space_id));
    }
    let Some(presented) = ApiKeyToken::parse(token) else {
        return Ok(None);
    };
    let record = authority.key_record(&presented.id).await?;
    Ok(record.map(|(key, _)| key.standing.space.id.clone()))
}
