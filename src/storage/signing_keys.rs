//! Signing keys, their private halves sealed. A key that will never sign again has none.

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::{
    Engine,
    entity::{HiddenBytes, signing_keys},
    statement::{engine_of, execute},
};
use crate::{
    clock::Timestamp,
    domain::{
        ids::SigningKeyId,
        jwt::Algorithm,
        signing_key::{Life, SigningKeyDescription, State},
    },
    error::{Error, Result},
};

const PUBLISHED: [State; 3] = [State::Prepared, State::Active, State::Retiring];

/// A key as the database holds it. Debug hides the sealed half.
#[derive(Clone)]
pub struct StoredSigningKey {
    /// What may be seen of it.
    pub described: SigningKeyDescription,
    /// The public half.
    pub public_key: Vec<u8>,
    /// The private half, sealed under a master key; empty where it was deleted.
    pub sealed_private_key: Vec<u8>,
    /// Which master key.
    pub master_key_id: String,
}

impl std::fmt::Debug for StoredSigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredSigningKey")
            .field("described", &self.described)
            .finish_non_exhaustive()
    }
}

/// Lets one transaction at a time change signing keys, whichever server it is of; reading goes on. Taken last of all locks.
pub async fn lock(db: &impl ConnectionTrait) -> Result<()> {
    if engine_of(db) == Engine::Postgres {
        db.execute_unprepared("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE")
            .await?;
    }
    Ok(())
}

/// The keys whose public halves are published, oldest first. A row that cannot be read is left out, and named in the log.
pub async fn published(db: &impl ConnectionTrait) -> Result<Vec<StoredSigningKey>> {
    let states = PUBLISHED.map(State::as_str);
    let models = signing_keys::Entity::find()
        .filter(signing_keys::Column::State.is_in(states))
        .order_by_asc(signing_keys::Column::PrepareTime)
        .order_by_asc(signing_keys::Column::SigningKeyId)
        .all(db)
        .await?;
    Ok(models.into_iter().filter_map(readable).collect())
}

/// One key, whatever its state.
pub async fn find(
    db: &impl ConnectionTrait,
    id: &SigningKeyId,
) -> Result<Option<SigningKeyDescription>> {
    let found = signing_keys::Entity::find_by_id(id.as_str())
        .one(db)
        .await?;
    let stored = found.map(StoredSigningKey::try_from).transpose()?;
    Ok(stored.map(|stored| stored.described))
}

/// Up to `limit` keys, newest first, after one of them; without those whose rows cannot be read.
pub async fn list(
    db: &impl ConnectionTrait,
    after: Option<(Timestamp, String)>,
    limit: u64,
) -> Result<Vec<SigningKeyDescription>> {
    use signing_keys::Column;
    let after = after.map(|(time, id)| {
        Condition::any()
            .add(Column::PrepareTime.lt(time.micros()))
            .add(
                Condition::all()
                    .add(Column::PrepareTime.eq(time.micros()))
                    .add(Column::SigningKeyId.lt(id)),
            )
    });
    let models = signing_keys::Entity::find()
        .filter(Condition::all().add_option(after))
        .order_by_desc(Column::PrepareTime)
        .order_by_desc(Column::SigningKeyId)
        .limit(limit)
        .all(db)
        .await?;
    let readable = models.into_iter().filter_map(readable);
    Ok(readable.map(|stored| stored.described).collect())
}

/// Adds a key.
pub async fn insert(db: &impl ConnectionTrait, key: &StoredSigningKey) -> Result<()> {
    let life = &key.described.life;
    let model = signing_keys::Model {
        signing_key_id: key.described.id.to_string(),
        algorithm: key.described.algorithm.as_str().to_owned(),
        public_key: key.public_key.clone(),
        sealed_private_key: HiddenBytes(key.sealed_private_key.clone()),
        master_key_id: key.master_key_id.clone(),
        state: life.state.as_str().to_owned(),
        prepare_time: life.prepare_time.micros(),
        activate_time: life.activate_time.map(Timestamp::micros),
        retire_time: life.retire_time.map(Timestamp::micros),
        remove_time: life.remove_time.map(Timestamp::micros),
    };
    signing_keys::Entity::insert(model.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Writes where a key stands. The private half of one that will not sign any more is deleted.
pub async fn update(db: &impl ConnectionTrait, key: &SigningKeyDescription) -> Result<()> {
    let life = &key.life;
    let sql =
        "UPDATE signing_keys SET state = $2, activate_time = $3, retire_time = $4, remove_time = $5
               WHERE signing_key_id = $1";
    let values = [
        key.id.as_str().into(),
        life.state.as_str().into(),
        life.activate_time.map(Timestamp::micros).into(),
        life.retire_time.map(Timestamp::micros).into(),
        life.remove_time.map(Timestamp::micros).into(),
    ];
    execute(db, sql, values).await?;
    if !life.state.may_sign() {
        reseal(db, &key.id, Vec::new(), "").await?;
    }
    Ok(())
}

/// Puts another sealed text in the place of a key's private half.
pub async fn reseal(
    db: &impl ConnectionTrait,
    id: &SigningKeyId,
    sealed_private_key: Vec<u8>,
    master_key_id: &str,
) -> Result<()> {
    let sql = "UPDATE signing_keys SET sealed_private_key = $2, master_key_id = $3 WHERE signing_key_id = $1";
    let values = [
        id.as_str().into(),
        sealed_private_key.into(),
        master_key_id.into(),
    ];
    execute(db, sql, values).await?;
    Ok(())
}

fn readable(model: signing_keys::Model) -> Option<StoredSigningKey> {
    let id = model.signing_key_id.clone();
    let stored = StoredSigningKey::try_from(model);
    stored
        .inspect_err(|error| {
            tracing::error!(signing_key.id = id, error = ?error, "signing_key.unreadable");
        })
        .ok()
}

impl TryFrom<signing_keys::Model> for StoredSigningKey {
    type Error = Error;

    fn try_from(model: signing_keys::Model) -> Result<Self> {
        let unreadable = || Error::internal("a signing key cannot be read");
        let time = |micros: Option<i64>| micros.map(Timestamp::from_micros);
        let life = Life {
            state: State::parse(&model.state).ok_or_else(unreadable)?,
            prepare_time: Timestamp::from_micros(model.prepare_time),
            activate_time: time(model.activate_time),
            retire_time: time(model.retire_time),
            remove_time: time(model.remove_time),
        };
        Ok(Self {
            described: SigningKeyDescription {
                id: SigningKeyId::known(model.signing_key_id),
                algorithm: Algorithm::parse(&model.algorithm).ok_or_else(unreadable)?,
                life,
            },
            public_key: model.public_key,
            sealed_private_key: model.sealed_private_key.0,
            master_key_id: model.master_key_id,
        })
    }
}
