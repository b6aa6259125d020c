//! Revokes a presented token: holding it is the right to revoke it (RFC 7009).

use crate::{
    authority::{
        Authority, Call, api_keys, audit,
        credentials::{Inactive, VerifiedToken},
        revocations::shared_commits::Ending,
    },
    domain::{
        api_key::{self, ApiKeyToken},
        jwt,
        revocation::{Decision, Reason, Subject},
    },
    error::Result,
    log::{Effect, Pending, WaitUntil},
};

/// Ends the session of a JWT, or an API key. None where the token is not one of ours, or has expired.
pub async fn revoke(
    authority: &Authority,
    token: &str,
    call: &Call,
    until: WaitUntil,
) -> Result<Option<Effect>> {
    if api_key::has_form(token) {
        return revoke_api_key(authority, token, call, until).await;
    }
    let now = authority.clock.now();
    let verdict = match authority.authenticate_jwt(token, now).await? {
        // Where our clock was set back. The token will be good again, hence it can be ended.
        Err(Inactive::NotYetValid) => {
            let begin = jwt::claimed(token).map(|token| token.issue_time.max(token.not_before));
            authority
                .authenticate_jwt(token, begin.unwrap_or(now))
                .await?
        }
        verdict => verdict,
    };
    match verdict {
        Ok(held) => Ok(end_session(authority, &held, call)
            .await?
            .effect(until)
            .await),
        Err(_) => Ok(None),
    }
}

async fn end_session(authority: &Authority, held: &VerifiedToken, call: &Call) -> Result<Pending> {
    let token = &held.token;
    let subject = Subject::Session(token.session_id.clone());
    let space = Some(&token.space_id);
    let actor = audit::Actor {
        user: Some(&token.subject),
        api_key: token.api_key_id.as_ref(),
        call: Some(call),
    };
    let done = audit::Done {
        action: "session.revoke",
        space,
        resource: token.session_id.as_str(),
        details: &[("token_id", token.token_id.as_str())],
    };
    let ending = Ending {
        event: audit::event(actor, done, authority.clock.now())?,
        target: Decision::revocation(subject, space.cloned(), Reason::Logout),
        request: None,
    };
    Ok(authority.shared_commits.end(ending).await?.pending)
}

async fn revoke_api_key(
    authority: &Authority,
    token: &str,
    call: &Call,
    until: WaitUntil,
) -> Result<Option<Effect>> {
    let Some(presented) = ApiKeyToken::parse(token) else {
        return Ok(None);
    };
    let Some((key, _)) = authority.key_record(&presented.id).await? else {
        return Ok(None);
    };
    match key.check(&presented, authority.clock.now()) {
        // What is revoked already is waited for anew; what is only switched off can still be ended.
        Ok(_) | Err(Inactive::Revoked | Inactive::Disabled) => {}
        Err(_) => return Ok(None),
    }
    let actor = audit::Actor {
        user: Some(&key.standing.user.id),
        api_key: Some(&key.id),
        call: Some(call),
    };
    let (pending, _) =
        api_keys::revoke::end(authority, &key.id, Reason::Logout, "", actor, None).await?;
    Ok(pending.effect(until).await)
}
