//! The whole `ApiKeyService`, a file a verb.

mod abuse;
mod create;
mod last_use;
mod list;
mod many_uses;
mod reach;
mod rotate;
mod unknown;
mod update;
mod whose;
