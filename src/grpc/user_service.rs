//! `UserService`: who signs in, and service accounts.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::{authentication::caller_of, convert};
use crate::{
    authority::{
        Authority,
        directory::{
            passwords,
            users::{self, Changes, NewUser},
        },
    },
    domain::{directory::User, ids::Username, password::Password},
    error::{Error, Result},
    proto::{self, user_service_server::UserService},
};

/// The service.
#[derive(Debug, Clone)]
pub struct Users(pub Arc<Authority>);

#[async_trait]
impl UserService for Users {
    async fn create_user(
        &self,
        request: Request<proto::CreateUserRequest>,
    ) -> Result<Response<proto::CreateUserResponse>, Status> {
        let caller = caller_of(&request)?;
        let wanted = wanted(request.into_inner())?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let user = users::create(&self.0, &caller, wanted, until).await?;
        Ok(Response::new(proto::CreateUserResponse {
            user: Some(described(user)),
        }))
    }

    async fn get_user(
        &self,
        request: Request<proto::GetUserRequest>,
    ) -> Result<Response<proto::GetUserResponse>, Status> {
        let caller = caller_of(&request)?;
        let named = convert::required(&request.get_ref().user, "user")?;
        let user = users::get(&self.0, &caller, named).await?;
        Ok(Response::new(proto::GetUserResponse {
            user: Some(described(user)),
        }))
    }

    async fn list_users(
        &self,
        request: Request<proto::ListUsersRequest>,
    ) -> Result<Response<proto::ListUsersResponse>, Status> {
        let caller = caller_of(&request)?;
        let mut request = request.into_inner();
        let page_token = std::mem::take(&mut request.page_token);
        let page_size = std::mem::take(&mut request.page_size);
        let wanted = convert::page(&caller, "ListUsers", page_size, &page_token, &request)?;
        let page = users::list(&self.0, &caller, &request.space, &wanted).await?;
        Ok(Response::new(proto::ListUsersResponse {
            users: page.rows.into_iter().map(described).collect(),
            next_page_token: page.next,
        }))
    }

    async fn update_user(
        &self,
        request: Request<proto::UpdateUserRequest>,
    ) -> Result<Response<proto::UpdateUserResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let user = given(request.user)?;
        let changes = changes(&user, &convert::mask(request.update_mask)?)?;
        let named = convert::either(&user.user_id, &user.username, "user.user_id")?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let (user, effect) = users::update(&self.0, &caller, named, changes, until).await?;
        Ok(Response::new(proto::UpdateUserResponse {
            user: Some(described(user)),
            effect: effect.map(convert::effect),
        }))
    }

    async fn delete_user(
        &self,
        request: Request<proto::DeleteUserRequest>,
    ) -> Result<Response<proto::DeleteUserResponse>, Status> {
        let caller = caller_of(&request)?;
        let named = convert::required(&request.get_ref().user, "user")?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let effect = users::delete(&self.0, &caller, named, until).await?;
        Ok(Response::new(proto::DeleteUserResponse {
            effect: effect.map(convert::effect),
        }))
    }

    async fn change_password(
        &self,
        request: Request<proto::ChangePasswordRequest>,
    ) -> Result<Response<proto::ChangePasswordResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let current = Password::presented(request.current_password, "current_password")?;
        let new = Password::presented(request.new_password, "new_password")?;
        let changed = passwords::change(&self.0, &caller, &current, &new, until).await?;
        Ok(Response::new(proto::ChangePasswordResponse {
            effect: changed.effect.map(convert::effect),
            token: changed.token.map(convert::issued),
        }))
    }

    async fn reset_password(
        &self,
        request: Request<proto::ResetPasswordRequest>,
    ) -> Result<Response<proto::ResetPasswordResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let new = match request.new_password {
            none if none.is_empty() => None,
            text => Some(Password::presented(text, "new_password")?),
        };
        let named = convert::required(&request.user, "user")?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let keys = request.revoke_api_keys;
        let reset = passwords::reset(&self.0, &caller, named, new, keys, until).await?;
        Ok(Response::new(proto::ResetPasswordResponse {
            generated_password: reset
                .generated
                .map(|text| text.to_string())
                .unwrap_or_default(),
            effect: reset.effect.map(convert::effect),
        }))
    }
}

fn given(user: Option<proto::User>) -> Result<proto::User> {
    user.ok_or_else(|| Error::field("user", "is required"))
}

fn wanted(request: proto::CreateUserRequest) -> Result<NewUser> {
    let user = given(request.user)?;
    let username = Username::parse(&user.username, "user.username")?;
    let password = match request.password {
        none if none.is_empty() => None,
        text => Some(Password::chosen(text, &username, "password")?),
    };
    Ok(NewUser {
        email: email(&user)?,
        display_name: display_name(&user)?,
        disabled: user.disabled,
        space: user.space_id,
        username,
        password,
    })
}

fn changes(user: &proto::User, paths: &[String]) -> Result<Changes> {
    let mut changes = Changes::default();
    for path in paths {
        match path.as_str() {
            "email" => changes.email = Some(email(user)?),
            "display_name" => changes.display_name = Some(display_name(user)?),
            "disabled" => changes.disabled = Some(user.disabled),
            other => return Err(convert::unchangeable(other)),
        }
    }
    Ok(changes)
}

/// Nothing, or something with an `@` in the middle, of at most 254 characters (RFC 5321 section 4.5.3.1.3). Whether mail
/// arrives there, only mail can tell.
fn email(user: &proto::User) -> Result<String> {
    let email = &user.email;
    let good = email.is_empty()
        || (email.len() <= 254
            && email
                .chars()
                .all(|letter| !letter.is_control() && !letter.is_whitespace())
            && email
                .rsplit_once('@')
                .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty()));
    if good {
        return Ok(email.clone());
    }
    Err(Error::field("user.email", "must be an e-mail address"))
}

fn display_name(user: &proto::User) -> Result<String> {
    convert::text(&user.display_name, "user.display_name", 128)?;
    Ok(user.display_name.clone())
}

fn described(user: User) -> proto::User {
    proto::User {
        user_id: user.id.to_string(),
        username: user.username.to_string(),
        email: user.email,
        display_name: user.display_name,
        disabled: user.disabled,
        password_set: user.password_set,
        create_time: Some(convert::timestamp(user.create_time)),
        update_time: Some(convert::timestamp(user.update_time)),
        last_sign_in_time: user.last_sign_in_time.map(convert::timestamp),
        space_id: user.home_space.to_string(),
    }
}
