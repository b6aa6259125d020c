//! Says whether a token is active, to a caller that may judge it.

use crate::{
    authority::{
        Authority,
        caller::Caller,
        credentials::{Credential, Inactive, Verdict},
    },
    domain::{
        api_key::{self, ApiKeyToken},
        ids::SpaceId,
        jwt,
        permission::{self, PermissionSet},
    },
    error::Result,
};

/// How often those of many that were found good are judged again: the first time may take as long as it takes to load what has
/// changed.
const JUDGED_AGAIN: usize = 2;

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

/// What is told of a token.
pub type Told = Result<Credential, Inactive>;

/// What this caller is told of one token.
pub async fn introspect(
    authority: &Authority,
    caller: &Caller,
    token: &str,
    question: &Question,
) -> Result<Told> {
    let judge = || verdict(authority, caller, token, question);
    let verdict = authority.log.judged(judge).await?;
    told(authority, caller, token, question, verdict).await
}

/// The same of many, in their order, as of about one moment: while some are loaded, others may be revoked. So what was found good
/// is judged again where the log has grown since; as all that this takes is remembered by then, it is done in no time.
pub async fn introspect_all(
    authority: &Authority,
    caller: &Caller,
    tokens: &[String],
    question: &Question,
) -> Result<Vec<Told>> {
    authority.remember_keys(tokens).await?;
    let judge = || async {
        let mut place = authority.log.applied().await?.position();
        let mut verdicts = Vec::with_capacity(tokens.len());
        for token in tokens {
            verdicts.push(verdict(authority, caller, token, question).await?);
        }
        for _ in 0..JUDGED_AGAIN {
            let before = place;
            place = authority.log.applied().await?.position();
            if place == before {
                break;
            }
            for (token, judged) in tokens.iter().zip(&mut verdicts) {
                if judged.is_ok() {
                    *judged = verdict(authority, caller, token, question).await?;
                }
            }
        }
        Ok(verdicts)
    };
    let mut all = Vec::with_capacity(tokens.len());
    for (token, verdict) in tokens.iter().zip(authority.log.judged(judge).await?) {
        all.push(told(authority, caller, token, question, verdict).await?);
    }
    Ok(all)
}

async fn verdict(
    authority: &Authority,
    caller: &Caller,
    token: &str,
    question: &Question,
) -> Result<Verdict> {
    let verdict = authority.judge(token, authority.clock.now()).await?;
    Ok(verdict.and_then(|good| {
        decide(caller, &good.credential, question)?;
        Ok(good)
    }))
}

/// Notes a verdict, and says what of it is told.
async fn told(
    authority: &Authority,
    caller: &Caller,
    token: &str,
    question: &Question,
    verdict: Verdict,
) -> Result<Told> {
    let inactive = verdict.as_ref().err().copied();
    authority.verdicts.count(token, inactive);
    match verdict {
        Ok(good) => {
            authority.note_use(&good, &question.client_address, authority.clock.now());
            Ok(Ok(good.credential))
        }
        Err(inactive) => Ok(Err(reason(authority, caller, token, inactive).await?)),
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
async fn reason(
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
