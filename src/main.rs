//! Parse, run, exit code. What the verbs do is in the library's `cli`.

use std::process::ExitCode;

use clap::Parser as _;
use token_authority::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    let provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(provider.is_ok(), "nobody else installs one");
    cli::run(Cli::parse()).await
}
