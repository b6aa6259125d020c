//! Users and service accounts, those that were deleted included.

use sea_orm::entity::prelude::*;

use super::HiddenText;

/// A row of `users`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    /// Unique, also among the deleted.
    pub username: String,
    /// Empty where there is none.
    pub email: String,
    pub display_name: String,
    /// The home space.
    pub space_id: String,
    pub disabled: bool,
    /// None for service accounts.
    pub password_hash: Option<HiddenText>,
    /// Keys made under an earlier one are ended.
    pub key_generation: i64,
    /// When the generation was last raised.
    pub keys_ended_time: Option<i64>,
    pub create_time: i64,
    pub update_time: i64,
    pub delete_time: Option<i64>,
    pub last_sign_in_time: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
