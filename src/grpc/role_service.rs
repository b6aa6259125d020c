//! `RoleService`: named sets of permissions, and who has which.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::{authentication::caller_of, convert};
use crate::{
    authority::{Authority, directory::roles},
    domain::{
        directory::{Role, RoleAssignment},
        ids::RoleName,
        permission::PermissionSet,
    },
    error::{Error, Result},
    proto::{self, role_service_server::RoleService},
};

/// The service.
#[derive(Debug, Clone)]
pub struct Roles(pub Arc<Authority>);

#[async_trait]
impl RoleService for Roles {
    async fn create_role(
        &self,
        request: Request<proto::CreateRoleRequest>,
    ) -> Result<Response<proto::CreateRoleResponse>, Status> {
        let caller = caller_of(&request)?;
        let role = given(request.into_inner().role)?;
        let name = RoleName::parse(&role.name, "role.name")?;
        let (description, permissions) = (description(&role)?, permissions(&role)?);
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let space = &role.space_id;
        let created = roles::create(
            &self.0,
            &caller,
            space,
            name,
            description,
            permissions,
            until,
        )
        .await?;
        Ok(Response::new(proto::CreateRoleResponse {
            role: Some(described(created)),
        }))
    }

    async fn list_roles(
        &self,
        request: Request<proto::ListRolesRequest>,
    ) -> Result<Response<proto::ListRolesResponse>, Status> {
        let caller = caller_of(&request)?;
        let mut request = request.into_inner();
        let page_token = std::mem::take(&mut request.page_token);
        let page_size = std::mem::take(&mut request.page_size);
        let wanted = convert::page(&caller, "ListRoles", page_size, &page_token, &request)?;
        let page = roles::list(&self.0, &caller, &request.space, &wanted).await?;
        Ok(Response::new(proto::ListRolesResponse {
            roles: page.rows.into_iter().map(described).collect(),
            next_page_token: page.next,
        }))
    }

    async fn update_role(
        &self,
        request: Request<proto::UpdateRoleRequest>,
    ) -> Result<Response<proto::UpdateRoleResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let role = given(request.role)?;
        let name = RoleName::parse(&role.name, "role.name")?;
        let (mut says, mut grants) = (None, None);
        for path in convert::mask(request.update_mask)? {
            match path.as_str() {
                "description" => says = Some(description(&role)?),
                "permissions" => grants = Some(permissions(&role)?),
                other => return Err(convert::unchangeable(other).into()),
            }
        }
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let space = &role.space_id;
        let (role, effect) =
            roles::update(&self.0, &caller, space, &name, says, grants, until).await?;
        Ok(Response::new(proto::UpdateRoleResponse {
            role: Some(described(role)),
            effect: effect.map(convert::effect),
        }))
    }

    async fn delete_role(
        &self,
        request: Request<proto::DeleteRoleRequest>,
    ) -> Result<Response<proto::DeleteRoleResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let name = RoleName::parse(&request.name, "name")?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let effect = roles::delete(&self.0, &caller, &request.space, &name, until).await?;
        Ok(Response::new(proto::DeleteRoleResponse {
            effect: effect.map(convert::effect),
        }))
    }

    async fn assign_role(
        &self,
        request: Request<proto::AssignRoleRequest>,
    ) -> Result<Response<proto::AssignRoleResponse>, Status> {
        let caller = caller_of(&request)?;
        let (assignment, role) = assignment(request.into_inner().assignment)?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let (space, user) = (&assignment.space_id, &assignment.user_id);
        let assigned = roles::assign(&self.0, &caller, space, user, &role, until).await?;
        Ok(Response::new(proto::AssignRoleResponse {
            assignment: Some(told(&assigned)),
        }))
    }

    async fn unassign_role(
        &self,
        request: Request<proto::UnassignRoleRequest>,
    ) -> Result<Response<proto::UnassignRoleResponse>, Status> {
        let caller = caller_of(&request)?;
        let (assignment, role) = assignment(request.into_inner().assignment)?;
        let until = caller.call.wait_until(convert::DEFAULT_WAIT);
        let (space, user) = (&assignment.space_id, &assignment.user_id);
        let effect = roles::unassign(&self.0, &caller, space, user, &role, until).await?;
        Ok(Response::new(proto::UnassignRoleResponse {
            effect: effect.map(convert::effect),
        }))
    }

    async fn list_role_assignments(
        &self,
        request: Request<proto::ListRoleAssignmentsRequest>,
    ) -> Result<Response<proto::ListRoleAssignmentsResponse>, Status> {
        let caller = caller_of(&request)?;
        let mut request = request.into_inner();
        let page_token = std::mem::take(&mut request.page_token);
        let page_size = std::mem::take(&mut request.page_size);
        let method = "ListRoleAssignments";
        let wanted = convert::page(&caller, method, page_size, &page_token, &request)?;
        let role = match request.role.as_str() {
            "" => None,
            name => Some(RoleName::parse(name, "role")?),
        };
        let (space, user) = (&request.space, &request.user);
        let page = roles::assignments(&self.0, &caller, space, user, role, &wanted).await?;
        Ok(Response::new(proto::ListRoleAssignmentsResponse {
            assignments: page.rows.iter().map(told).collect(),
            next_page_token: page.next,
        }))
    }
}

fn given(role: Option<proto::Role>) -> Result<proto::Role> {
    role.ok_or_else(|| Error::field("role", "is required"))
}

fn assignment(
    assignment: Option<proto::RoleAssignment>,
) -> Result<(proto::RoleAssignment, RoleName)> {
    let assignment = assignment.ok_or_else(|| Error::field("assignment", "is required"))?;
    convert::required(&assignment.user_id, "assignment.user_id")?;
    let role = RoleName::parse(&assignment.role, "assignment.role")?;
    Ok((assignment, role))
}

fn description(role: &proto::Role) -> Result<String> {
    convert::text(&role.description, "role.description", 1024)?;
    Ok(role.description.clone())
}

fn permissions(role: &proto::Role) -> Result<PermissionSet> {
    convert::at_most(&role.permissions, "role.permissions", 256)?;
    PermissionSet::parse(&role.permissions, "role.permissions")
}

fn described(role: Role) -> proto::Role {
    proto::Role {
        built_in: role.is_built_in(),
        space_id: role.space_id.to_string(),
        name: role.name.to_string(),
        description: role.description,
        permissions: role.permissions.to_strings(),
        create_time: role.times.map(|(made, _)| convert::timestamp(made)),
        update_time: role.times.map(|(_, changed)| convert::timestamp(changed)),
    }
}

fn told(assignment: &RoleAssignment) -> proto::RoleAssignment {
    proto::RoleAssignment {
        space_id: assignment.space_id.to_string(),
        role: assignment.role.to_string(),
        user_id: assignment.user_id.to_string(),
        create_time: Some(convert::timestamp(assignment.create_time)),
    }
}
