//! What every verb takes.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::cli::input;

/// Options of every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Options {
    /// Where the server listens for gRPC; https:// means TLS
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "TOKEN_AUTHORITY_ADDRESS",
        hide_env_values = true,
        default_value = "http://127.0.0.1:50051"
    )]
    pub(crate) address: String,
    /// Take the caller's token or API key from this file, `-` for stdin; otherwise it is the variable
    /// `TOKEN_AUTHORITY_TOKEN`, otherwise what `login` stored for the address
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TOKEN_AUTHORITY_TOKEN_FILE",
        hide_env_values = true
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// Trust the certificates in this PEM file, and no others
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TOKEN_AUTHORITY_CA_FILE",
        hide_env_values = true,
        hide_short_help = true
    )]
    pub(crate) ca_file: Option<PathBuf>,
    /// Present this certificate (PEM) to the server
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TOKEN_AUTHORITY_CLIENT_CERTIFICATE_FILE",
        hide_env_values = true,
        hide_short_help = true,
        requires = "client_key_file"
    )]
    pub(crate) client_certificate_file: Option<PathBuf>,
    /// The private key (PEM) of that certificate
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TOKEN_AUTHORITY_CLIENT_KEY_FILE",
        hide_env_values = true,
        hide_short_help = true,
        requires = "client_certificate_file"
    )]
    pub(crate) client_key_file: Option<PathBuf>,
    /// How long a call may take, for example 500ms, 30s or 2m
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = input::timeout
    )]
    pub(crate) timeout: Duration,
    /// How answers are printed
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub(crate) output: Format,
    /// Print secrets alone, lists as ids alone, and nothing else but failures
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables on a terminal, tab-separated lines elsewhere
    Table,
    /// The proto3 JSON form of the answer
    Json,
}
