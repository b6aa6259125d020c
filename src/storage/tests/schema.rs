//! The schema, as the code above it expects it.

use std::collections::BTreeMap;

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ConnectionTrait, DbErr, EntityTrait,
};

use super::{Place, count_spaces, space, write_space};
use crate::{
    error::{Error, Reason},
    storage::{
        Database, Engine, entity::*, migrate_up, migration_status, require_current_schema,
        violated_constraint,
    },
};

/// Reads a row of a table, whether there is one or not: so every column of the entity is in the schema.
async fn read<E: EntityTrait>(database: &Database) {
    E::find().one(database.reader()).await.unwrap();
}

fn user(username: &str) -> users::ActiveModel {
    users::ActiveModel {
        user_id: Set(format!("usr_{username}")),
        username: Set(username.to_owned()),
        email: Set(String::new()),
        display_name: Set("A user".to_owned()),
        space_id: Set("spc_one".to_owned()),
        disabled: Set(false),
        password_hash: Set(Some(HiddenText("$argon2id$".to_owned()))),
        key_generation: Set(0),
        keys_ended_time: Set(None),
        create_time: Set(1),
        update_time: Set(1),
        delete_time: Set(None),
        last_sign_in_time: Set(None),
    }
}

fn api_key(id: &str) -> api_keys::ActiveModel {
    api_keys::ActiveModel {
        api_key_id: Set(id.to_owned()),
        space_id: Set("spc_one".to_owned()),
        user_id: Set("usr_ann".to_owned()),
        prefix: Set("ta".to_owned()),
        display_name: Set("A key".to_owned()),
        description: Set(String::new()),
        roles: Set(StringList::default()),
        scopes: Set(StringList(vec!["orders.read".to_owned()])),
        audiences: Set(StringList::default()),
        allowed_cidrs: Set(StringList(vec!["10.0.0.0/8".to_owned()])),
        labels: Set(StringMap(BTreeMap::from([(
            "team".to_owned(),
            "blue".to_owned(),
        )]))),
        disabled: Set(true),
        expire_time: Set(Some(i64::MAX)),
        space_generation: Set(1),
        user_generation: Set(2),
        current_secret: NotSet,
        create_time: Set(1),
        update_time: Set(1),
        revoke_time: Set(None),
        last_use_time: Set(None),
        last_use_address: Set(None),
    }
}

fn signing_key(id: &str, state: &str) -> signing_keys::ActiveModel {
    signing_keys::ActiveModel {
        signing_key_id: Set(id.to_owned()),
        algorithm: Set("EdDSA".to_owned()),
        public_key: Set(vec![1, 2, 3]),
        sealed_private_key: Set(HiddenBytes(vec![4, 5, 6])),
        master_key_id: Set("master".to_owned()),
        state: Set(state.to_owned()),
        prepare_time: Set(1),
        activate_time: Set(None),
        retire_time: Set(None),
        remove_time: Set(None),
    }
}

#[tokio::test]
async fn every_entity_has_its_table() {
    for place in Place::each().await {
        let database = place.open().await;
        read::<authority::Entity>(&database).await;
        read::<spaces::Entity>(&database).await;
        read::<users::Entity>(&database).await;
        read::<roles::Entity>(&database).await;
        read::<role_assignments::Entity>(&database).await;
        read::<api_keys::Entity>(&database).await;
        read::<api_key_secrets::Entity>(&database).await;
        read::<signing_keys::Entity>(&database).await;
        read::<rotated_tokens::Entity>(&database).await;
        read::<sign_in_failures::Entity>(&database).await;
        read::<audit_events::Entity>(&database).await;
        read::<idempotency_keys::Entity>(&database).await;
    }
}

#[tokio::test]
async fn rows_come_back_as_they_were_written() {
    for place in Place::each().await {
        let database = place.open().await;
        let transaction = database.begin().await.unwrap();
        let space = space("one").insert(&transaction).await.unwrap();
        let user = user("ann").insert(&transaction).await.unwrap();
        let key = api_key("k").insert(&transaction).await.unwrap();
        let signing_key = signing_key("s", "active")
            .insert(&transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();

        let reader = database.reader();
        assert_eq!(
            spaces::Entity::find().one(reader).await.unwrap(),
            Some(space)
        );
        assert_eq!(users::Entity::find().one(reader).await.unwrap(), Some(user));
        assert_eq!(key.current_secret, 1);
        assert_eq!(
            api_keys::Entity::find().one(reader).await.unwrap(),
            Some(key)
        );
        assert_eq!(
            signing_keys::Entity::find().one(reader).await.unwrap(),
            Some(signing_key)
        );
    }
}

#[tokio::test]
async fn a_violated_constraint_is_known_by_its_name() {
    for place in Place::each().await {
        let database = place.open().await;
        write_space(&database, "one").await.unwrap();
        let transaction = database.begin().await.unwrap();
        user("ann").insert(&transaction).await.unwrap();
        signing_key("s1", "active")
            .insert(&transaction)
            .await
            .unwrap();
        signing_key("s2", "prepared")
            .insert(&transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();

        let mut same_slug = space("one");
        same_slug.space_id = Set("spc_other".to_owned());
        let mut same_id = space("two");
        same_id.space_id = Set("spc_one".to_owned());
        let mut same_name = user("ann");
        same_name.user_id = Set("usr_other".to_owned());
        assert_eq!(violated(&database, same_slug).await, "spaces_slug_key");
        assert_eq!(violated(&database, same_id).await, "spaces_pkey");
        assert_eq!(violated(&database, same_name).await, "users_username_key");
        assert_eq!(
            violated(&database, signing_key("s3", "active")).await,
            "signing_keys_state_key"
        );
        assert_eq!(
            violated(&database, authority(2)).await,
            "authority_authority_id_check"
        );
    }
}

fn authority(id: i32) -> authority::ActiveModel {
    authority::ActiveModel {
        authority_id: Set(id),
        log_identity: Set("log".to_owned()),
        timeline: Set(None),
        key_check: Set(HiddenBytes(Vec::new())),
        master_key_id: Set("master".to_owned()),
        audit_sequence: NotSet,
        audit_digest: Set(None),
        audit_hmac: Set(None),
        latest_time: NotSet,
        create_time: Set(1),
    }
}

async fn violated<A>(database: &Database, row: A) -> String
where
    A: ActiveModelTrait,
    A::Entity: EntityTrait<ActiveModel = A>,
{
    let transaction = database.begin().await.unwrap();
    let refused = A::Entity::insert(row)
        .exec_without_returning(&transaction)
        .await;
    violated_constraint(&refused.unwrap_err()).unwrap()
}

#[tokio::test]
async fn a_failure_does_not_repeat_what_was_written() {
    for place in Place::each().await {
        let database = place.open().await;
        write_space(&database, "hush-hush").await.unwrap();
        let refused = write_space(&database, "hush-hush").await.unwrap_err();
        assert_eq!(refused.reason(), Reason::ConcurrentModification);
        assert!(!format!("{refused:?}").contains("hush"));
    }
}

#[test]
fn rows_do_not_show_what_is_hidden() {
    let shown = format!("{:?}", user("ann"));
    assert!(shown.contains("HiddenText"));
    assert!(!shown.contains("argon2id"));
}

#[tokio::test]
async fn migrations_are_applied_once_however_many_begin() {
    for place in Place::each().await {
        let database = Database::open(&place.settings).await.unwrap();
        let before = migration_status(&database).await.unwrap();
        assert!(before.iter().all(|step| !step.applied));
        require_current_schema(&database).await.unwrap_err();
        if database.engine() == Engine::Postgres {
            let (one, other) = tokio::join!(migrate_up(&database), migrate_up(&database));
            one.and(other).unwrap();
        }
        migrate_up(&database).await.unwrap();
        require_current_schema(&database).await.unwrap();
        assert_eq!(count_spaces(&database).await, 0);
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    for place in Place::each().await {
        let database = place.open().await;
        let transaction = database.begin().await.unwrap();
        transaction
            .execute_unprepared("INSERT INTO seaql_migrations VALUES ('m9999_later', 0)")
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        for refused in [
            migrate_up(&database).await.unwrap_err(),
            require_current_schema(&database).await.unwrap_err(),
        ] {
            assert!(refused.message().contains("newer than this program"));
        }
    }
}

#[test]
fn a_row_that_cannot_be_read_is_a_fault() {
    let error = Error::from(DbErr::Json("expected a list, found \"hush\"".to_owned()));
    assert_eq!(error.reason(), Reason::Internal);
    assert!(!format!("{error:?}").contains("hush"));
}
