//! Sign-ins, counted by what came of them.

use metrics::{Counter, counter};

use crate::{
    error::{Reason, Result},
    telemetry::metrics as names,
};

/// See the module.
#[derive(Debug)]
pub struct SignIns {
    right: Counter,
    wrong: Counter,
    throttled: Counter,
    failed: Counter,
}

impl Default for SignIns {
    fn default() -> Self {
        let counter = |result| counter!(names::SIGN_INS, "result" => result);
        Self {
            right: counter("right"),
            wrong: counter("wrong"),
            throttled: counter("throttled"),
            failed: counter("failed"),
        }
    }
}

impl SignIns {
    /// Counts one. What is neither right nor wrong was not compared.
    pub fn count<T>(&self, signed_in: &Result<T>) {
        let counter = match signed_in {
            Ok(_) => &self.right,
            Err(error) if error.reason() == Reason::CredentialsInvalid => &self.wrong,
            Err(error) if error.reason() == Reason::SignInThrottled => &self.throttled,
            Err(_) => &self.failed,
        };
        counter.increment(1);
    }
}
