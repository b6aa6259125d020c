//! Signing keys, their private halves sealed.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter};

use super::entity::{HiddenBytes, signing_keys};
use crate::{
    clock::Timestamp,
    domain::{ids::SigningKeyId, jwt::Algorithm},
    error::{Error, Result},
};

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Published, not signing.
    Prepared,
    /// Signing.
    Active,
    /// Published for the tokens it signed.
    Retiring,
}

impl State {
    const PUBLISHED: [Self; 3] = [Self::Prepared, Self::Active, Self::Retiring];

    fn column(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Retiring => "retiring",
        }
    }
}

/// A key as the database holds it. Debug hides the sealed half.
pub struct StoredSigningKey {
    /// The `kid`.
    pub id: SigningKeyId,
    /// How it signs.
    pub algorithm: Algorithm,
    /// The public half.
    pub public_key: Vec<u8>,
    /// The private half, sealed under a master key.
    pub sealed_private_key: Vec<u8>,
    /// Which master key.
    pub master_key_id: String,
    /// Where it stands.
    pub state: State,
    /// When it was made and published.
    pub prepare_time: Timestamp,
    /// When it began to sign.
    pub activate_time: Option<Timestamp>,
}

impl std::fmt::Debug for StoredSigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredSigningKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The keys whose public halves are published.
pub async fn published(db: &impl ConnectionTrait) -> Result<Vec<StoredSigningKey>> {
    let states = State::PUBLISHED.map(State::column);
    let models = signing_keys::Entity::find()
        .filter(signing_keys::Column::State.is_in(states))
        .all(db)
        .await?;
    models.into_iter().map(StoredSigningKey::try_from).collect()
}

/// Adds a key.
pub async fn insert(db: &impl ConnectionTrait, key: &StoredSigningKey) -> Result<()> {
    let model = signing_keys::Model {
        signing_key_id: key.id.to_string(),
        algorithm: key.algorithm.as_str().to_owned(),
        public_key: key.public_key.clone(),
        sealed_private_key: HiddenBytes(key.sealed_private_key.clone()),
        master_key_id: key.master_key_id.clone(),
        state: key.state.column().to_owned(),
        prepare_time: key.prepare_time.micros(),
        activate_time: key.activate_time.map(Timestamp::micros),
        retire_time: None,
        remove_time: None,
    };
    signing_keys::Entity::insert(model.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

impl TryFrom<signing_keys::Model> for StoredSigningKey {
    type Error = Error;

    fn try_from(model: signing_keys::Model) -> Result<Self> {
        let unreadable = || Error::internal("a signing key cannot be read");
        Ok(Self {
            id: SigningKeyId::known(model.signing_key_id),
            algorithm: Algorithm::parse(&model.algorithm).ok_or_else(unreadable)?,
            public_key: model.public_key,
            sealed_private_key: model.sealed_private_key.0,
            master_key_id: model.master_key_id,
            state: State::PUBLISHED
                .into_iter()
                .find(|state| state.column() == model.state)
                .ok_or_else(unreadable)?,
            prepare_time: Timestamp::from_micros(model.prepare_time),
            activate_time: model.activate_time.map(Timestamp::from_micros),
        })
    }
}
