//! A space with people in it.

use token_authority::domain::ids::{SpaceId, UserId};

use super::{PASSWORD, Server};

/// What the role `clerk` of a [`Tenant`] grants.
pub(crate) const CLERK: [&str; 3] = ["billing.read", "orders.read", "orders.write"];

/// A space with a clerk, alice, who may do what [`CLERK`] says, and an admin, boss; and the admin of `system`, root.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) space: SpaceId,
    pub(crate) slug: String,
    pub(crate) alice: UserId,
    pub(crate) boss: UserId,
    /// JWTs of each.
    pub(crate) alice_token: String,
    pub(crate) boss_token: String,
    pub(crate) root_token: String,
}

impl Tenant {
    /// The username of one of them.
    pub(crate) fn name(&self, who: &str) -> String {
        format!("{who}.{}", self.slug)
    }
}

impl Server {
    /// A tenant.
    pub(crate) async fn tenant(&self, slug: &str) -> Tenant {
        let space = self.space(slug).await;
        self.role(&space, "clerk", &CLERK).await;
        let alice = self.user(&space, &format!("alice.{slug}")).await;
        self.assign(&space, &alice, "clerk").await;
        let boss = self.user(&space, &format!("boss.{slug}")).await;
        self.assign(&space, &boss, "admin").await;
        Tenant {
            alice_token: self.token_of(&format!("alice.{slug}")).await,
            boss_token: self.token_of(&format!("boss.{slug}")).await,
            root_token: self.admin().await.access_token,
            slug: slug.to_owned(),
            space,
            alice,
            boss,
        }
    }

    /// A JWT of a user in its home space.
    pub(crate) async fn token_of(&self, username: &str) -> String {
        self.sign_in(username, PASSWORD, "").await.access_token
    }
}
