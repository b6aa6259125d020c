//! How the server is seen at work: [`log`] and [`metrics`]. Both can be started again in one process, as tests do; the first
//! start counts.

mod lines;
pub mod log;
pub mod metrics;
