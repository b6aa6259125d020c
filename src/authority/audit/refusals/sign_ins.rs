//! Sign-ins that were throttled. Whether somebody bears the name is looked up when they are written, never while the caller
//! waits: what is done until the answer is the same for every name.
//!
//! Under a user's name they are written for the home space, and say whose name it was. Names that nobody bears are never
//! written down, since passwords are among what is given for a name: there is one event a minute for all of them, which the
//! operators read.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Mutex,
};

use super::{
    gathered::{Gathered, WAITING, count_unwritten},
    locked,
    refusal::{Refusal, Refused, Whose},
};
use crate::{
    authority::{Call, sign_in::Purpose},
    clock::Timestamp,
    domain::ids::{ApiKeyId, UserId, Username},
    error::{Reason, Result},
    storage::{self, Database, users::Bearer},
};

/// Users of one minute who are told apart: of more of them, who names them all could make the log grow with them. They are
/// counted by home space.
const USERS: usize = 64;
/// Names looked up at a time.
const BATCH: usize = 256;

/// Those that are not written yet.
#[derive(Debug, Default)]
pub(super) struct SignIns {
    /// Not looked up yet.
    noted: Mutex<Vec<SignIn>>,
    gathered: Mutex<Gathered>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct SignIn {
    /// None where it was not the form of a name.
    username: Option<Username>,
    method: &'static str,
    caller: Option<(UserId, Option<ApiKeyId>)>,
    time: Timestamp,
    client_address: String,
    request_id: String,
}

impl SignIn {
    pub(super) fn new(username: &str, purpose: Purpose<'_>, call: &Call, now: Timestamp) -> Self {
        let (method, caller) = match purpose {
            Purpose::Token => ("TokenService/IssueToken", None),
            Purpose::NewPassword(caller) => ("UserService/ChangePassword", Some(caller)),
        };
        Self {
            username: Username::parse(username, "username").ok(),
            method,
            caller: caller.map(|it| (it.user_id().clone(), it.api_key_id().cloned())),
            time: now,
            client_address: call.client_address.clone(),
            request_id: call.request_id.clone(),
        }
    }

    /// As it is written down, where this user bears the name.
    fn refusal(self, bearer: Option<&Bearer>) -> Refusal {
        let mut details = BTreeMap::from([("method".to_owned(), self.method.to_owned())]);
        let whose = match (bearer, self.caller) {
            (None, _) => Whose::Names,
            (Some(_), Some((user, api_key))) => Whose::Caller(user, api_key),
            (Some(bearer), None) => Whose::Name(bearer.user_id.clone()),
        };
        if let Some(bearer) = bearer {
            details.insert("username".to_owned(), bearer.username.to_string());
        }
        Refusal {
            refused: Refused {
                whose,
                space: bearer.map(|it| it.home_space.clone()),
            },
            time: self.time,
            resource: bearer.map_or_else(String::new, |it| it.user_id.to_string()),
            reason: Reason::SignInThrottled,
            client_address: self.client_address,
            request_id: self.request_id,
            details,
        }
    }
}

impl SignIns {
    pub(super) fn note(&self, sign_in: SignIn) {
        let mut noted = locked(&self.noted);
        if noted.len() < WAITING {
            noted.push(sign_in);
        } else {
            count_unwritten(1);
        }
    }

    /// Finds out who bears the names of those that were noted.
    pub(super) async fn look_up(&self, db: &Database) -> Result<()> {
        let mut noted = std::mem::take(&mut *locked(&self.noted));
        while !noted.is_empty() {
            let later = noted.split_off(noted.len().min(BATCH));
            match bearers(db, &noted).await {
                Ok(bearers) => self.gather(noted, &bearers),
                Err(error) => {
                    noted.into_iter().chain(later).for_each(|it| self.note(it));
                    return Err(error);
                }
            }
            noted = later;
        }
        Ok(())
    }

    fn gather(&self, sign_ins: Vec<SignIn>, bearers: &HashMap<Username, Bearer>) {
        let mut gathered = locked(&self.gathered);
        for sign_in in sign_ins {
            let bearer = sign_in.username.as_ref().and_then(|it| bearers.get(it));
            let mut refusal = sign_in.refusal(bearer);
            if !gathered.has_place_for(&refusal.refused, USERS) {
                refusal.refused.whose = Whose::Names;
                refusal.resource.clear();
                refusal.details.remove("username");
            }
            gathered.note(refusal);
        }
    }

    pub(super) fn take(&self, now: Timestamp, everything: bool) -> Vec<Refusal> {
        locked(&self.gathered).take(now, everything)
    }
}

async fn bearers(db: &Database, sign_ins: &[SignIn]) -> Result<HashMap<Username, Bearer>> {
    let names: HashSet<&Username> = sign_ins
        .iter()
        .filter_map(|sign_in| sign_in.username.as_ref())
        .collect();
    let found = storage::users::bearers(db.reader(), names).await?;
    let by_name = found.into_iter().map(|it| (it.username.clone(), it));
    Ok(by_name.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{authority::audit::refusals::ONE_BY_ONE, domain::ids::SpaceId};

    fn sign_in(username: &str) -> SignIn {
        let call = Call {
            request_id: String::new(),
            client_address: "192.0.2.1".to_owned(),
            deadline: None,
        };
        let now = Timestamp::from_seconds(10);
        SignIn::new(username, Purpose::Token, &call, now)
    }

    /// User `n` of 100 spaces.
    fn bearer(number: usize) -> (Username, Bearer) {
        let username = Username::known(format!("user-{number}"));
        let bearer = Bearer {
            username: username.clone(),
            user_id: UserId::known(format!("usr_{number}")),
            home_space: SpaceId::known(format!("spc_{}", number % 100)),
        };
        (username, bearer)
    }

    #[test]
    fn who_knows_every_name_makes_no_more_of_it_than_who_knows_a_few() {
        let users: HashMap<_, _> = (0..10_000).map(bearer).collect();
        let sign_ins = SignIns::default();
        for _ in 0..30 {
            let all = (0..10_000).map(|number| sign_in(&format!("user-{number}")));
            sign_ins.gather(all.collect(), &users);
        }
        let written = sign_ins.take(Timestamp::from_seconds(10), true);
        let most = USERS * (ONE_BY_ONE as usize + 1);
        assert_eq!(written.len(), most + 100);
        let of_many = written.iter().filter(|it| it.refused.whose == Whose::Names);
        for refusal in of_many {
            assert!(refusal.refused.space.is_some());
            assert_eq!(refusal.resource, "");
            assert!(!format!("{refusal:?}").contains("user-"));
        }
    }

    #[test]
    fn names_that_nobody_bears_are_one_event_and_are_not_in_it() {
        let sign_ins = SignIns::default();
        let names = (0..10_000).map(|number| sign_in(&format!("secret-{number}")));
        sign_ins.gather(names.collect(), &HashMap::new());
        sign_ins.gather(vec![sign_in("not a name\0")], &HashMap::new());
        let written = sign_ins.take(Timestamp::from_seconds(70), false);
        assert_eq!(written.len(), 1);
        assert_eq!(written[0].details["count"], "10001");
        assert_eq!(written[0].refused.space, None);
        assert!(!format!("{written:?}").contains("secret"));
    }

    #[test]
    fn what_is_not_looked_up_does_not_fill_the_memory() {
        let sign_ins = SignIns::default();
        for _ in 0..=WAITING {
            sign_ins.note(sign_in("alice"));
        }
        assert_eq!(locked(&sign_ins.noted).len(), WAITING);
    }
}
