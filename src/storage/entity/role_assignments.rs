//! Who holds which role in which space.

use sea_orm::entity::prelude::*;

/// A row of `role_assignments`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "role_assignments")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub space_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    /// A role's name, built-in ones included.
    #[sea_orm(primary_key, auto_increment = false)]
    pub role: String,
    pub create_time: i64,
}

impl ActiveModelBehavior for ActiveModel {}
