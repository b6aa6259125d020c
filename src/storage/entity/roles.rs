//! Roles that a space made for itself; the built-in ones have no row.

use sea_orm::entity::prelude::*;

use super::StringList;

/// A row of `roles`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "roles")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub space_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub description: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub permissions: StringList,
    pub create_time: i64,
    pub update_time: i64,
}

impl ActiveModelBehavior for ActiveModel {}
