//! What the authority does, whoever asks and however: no transport is named here, and no SQL.
//!
//! In reading order: [`credentials`] (is this token good), [`caller`] (who asks, and what they may), [`sign_in`] (passwords),
//! [`keyring`] (the keys that sign) and [`signing_keys`] (what changes them), [`tokens`] (issue, introspect, rotate, revoke),
//! [`revocations`] (revoke by reference, list, watch), [`subscriber`] (how streams are told), [`api_keys`], [`directory`] (users, spaces, roles), [`change`] (what every
//! change has in common), [`idempotency`] (lost answers), [`audit`], [`bootstrap`], [`lookups`] (for the metrics).

pub mod api_keys;
pub mod audit;
pub mod bootstrap;
pub mod caller;
pub mod change;
pub mod credentials;
pub mod directory;
pub mod forgetting;
pub mod idempotency;
pub mod keyring;
pub mod last_use;
pub mod lookups;
pub mod page;
pub mod revocations;
pub mod sign_in;
pub mod signing_keys;
pub mod subscriber;
pub mod tokens;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use self::{
    audit::refusals::Refusals,
    credentials::Credentials,
    keyring::{Keyring, master_keys::MasterKeys},
    last_use::LastUse,
    page::PageSeal,
    revocations::{lag::OpenStreams, shared_commits::SharedCommits},
    sign_in::{counts::SignIns, hashing::Hashing, throttle::Throttle},
    signing_keys::Policy,
    tokens::verdicts::Verdicts,
};
use crate::{
    clock::Clock,
    log::{RevocationLog, WaitUntil},
    storage::Database,
};

/// How long a call lasts that did not say.
const LONGEST_CALL: Duration = Duration::from_secs(30);

/// Everything that a call needs, made once at the start.
#[derive(Debug)]
pub struct Authority {
    /// Where it is remembered.
    pub db: Database,
    /// What time it is.
    pub clock: Clock,
    /// What ends tokens.
    pub log: RevocationLog,
    /// `iss` of its tokens, and the audience of calls to itself.
    pub issuer: Arc<str>,
    /// What signs.
    pub keyring: Arc<Keyring>,
    /// How keys are made and how long they sign.
    pub signing_keys: Policy,
    /// What private keys are sealed with, and secrets derived from.
    pub master_keys: Arc<MasterKeys>,
    /// Passwords, within what the machine can hash.
    pub hashing: Hashing,
    /// How fast passwords may be tried.
    pub throttle: Throttle,
    /// How sign-ins ended.
    pub sign_ins: SignIns,
    /// Whether a presented token is good.
    pub credentials: Credentials,
    /// What introspection found.
    pub verdicts: Verdicts,
    /// Page tokens.
    pub pages: PageSeal,
    /// When API keys were used.
    pub last_use: LastUse,
    /// Revocations of sessions and tokens that come at the same time.
    pub shared_commits: SharedCommits,
    /// Who is being told of revocations.
    pub streams: OpenStreams,
    /// Refusals that the audit log does not have yet.
    pub refusals: Refusals,
}

/// What is known of a call besides its request.
#[derive(Debug, Clone)]
pub struct Call {
    /// Under which the log and the audit log speak of it.
    pub request_id: String,
    /// From where it came; empty where that is not known.
    pub client_address: String,
    /// When the client no longer waits; none: it did not say.
    pub deadline: Option<Instant>,
}

impl Call {
    /// Until when a revocation may be waited for: `wait`, but never longer than leaves time to answer.
    pub fn wait_until(&self, wait: Duration) -> WaitUntil {
        let now = Instant::now();
        let answer_by = self.answer_by().unwrap_or(now + LONGEST_CALL);
        WaitUntil {
            placed: answer_by,
            effective: answer_by.min(now + wait),
        }
    }

    /// The last moment at which an answer still reaches the client; none: any.
    pub fn answer_by(&self) -> Option<Instant> {
        self.deadline.map(|deadline| {
            deadline
                .checked_sub(Duration::from_millis(100))
                .unwrap_or(deadline)
        })
    }
}
