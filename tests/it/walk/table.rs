//! The table: `o`k, `N`ot found, `P`ermission missing, `E`xceeds what is held, `I`nvalid (whoever gets so far may), `-`
//! credentials invalid, `0` no credentials. Callers in the order of [`super::CALLERS`].

const TABLE: &[(&str, &str)] = &[
    ("TokenService/IssueToken", "oooooooooooooo"),
    ("TokenService/IntrospectToken", "0PoPoooP-oP---"),
    ("TokenService/BatchIntrospectTokens", "0PoPoooP-oP---"),
    ("TokenService/RotateToken", "oooooooooooooo"),
    ("TokenService/RevokeToken", "oooooooooooooo"),
    ("TokenService/GetCallerIdentity", "0ooooooo-oo---"),
    ("ApiKeyService/CreateApiKey", "0NNNoNoN-EN---"),
    ("ApiKeyService/GetApiKey", "0NNooNoN-oN---"),
    ("ApiKeyService/ListApiKeys", "0NNooNoN-oN---"),
    ("ApiKeyService/UpdateApiKey", "0NNNoNoN-oN---"),
    ("ApiKeyService/RotateApiKey", "0NNNoNoN-EN---"),
    ("ApiKeyService/RevokeApiKey", "0NNNoNoN-oN---"),
    ("RevocationService/CreateRevocation", "0PPPoNoP-oP---"),
    ("RevocationService/ListRevocations", "0PoPoNoP-oP---"),
    ("RevocationService/WatchRevocations", "0PoPoNoP-oP---"),
    ("UserService/CreateUser", "0PPPoNoP-oP---"),
    ("UserService/GetUser", "0PPooNoP-oP---"),
    ("UserService/ListUsers", "0PPooNoP-oP---"),
    ("UserService/UpdateUser", "0PPPoNoP-oP---"),
    ("UserService/DeleteUser", "0PPPoNoP-oP---"),
    ("UserService/ChangePassword", "0IIIIIIP-IP---"),
    ("UserService/ResetPassword", "0PPPoNoP-EP---"),
    ("SpaceService/CreateSpace", "0PPPPPoP-oP---"),
    ("SpaceService/GetSpace", "0PPooNoP-oP---"),
    ("SpaceService/ListSpaces", "0ooooooo-oo---"),
    ("SpaceService/UpdateSpace", "0PPPoNoP-oP---"),
    ("SpaceService/DeleteSpace", "0PPPPPoP-oP---"),
    ("RoleService/CreateRole", "0PPPoNoP-EP---"),
    ("RoleService/ListRoles", "0PPooNoP-oP---"),
    ("RoleService/UpdateRole", "0PPPoNoP-EP---"),
    ("RoleService/DeleteRole", "0PPPoNoP-oP---"),
    ("RoleService/AssignRole", "0PPPoNoP-EP---"),
    ("RoleService/UnassignRole", "0PPPoNoP-oP---"),
    ("RoleService/ListRoleAssignments", "0PPooNoP-oP---"),
    ("AuditService/ListAuditEvents", "0PPooNoP-oP---"),
    ("SigningKeyService/GetJwks", "oooooooooooooo"),
    ("SigningKeyService/WatchJwks", "oooooooooooooo"),
    ("SigningKeyService/ListSigningKeys", "0PPPPPoP-oP---"),
    ("SigningKeyService/PrepareSigningKey", "0PPPPPoP-oP---"),
    ("SigningKeyService/ActivateSigningKey", "0PPPPPoP-oP---"),
    ("SigningKeyService/RevokeSigningKey", "0PPPPPoP-oP---"),
    ("SystemService/GetServerInfo", "0ooooooo-oo---"),
    ("SystemService/ListReplicas", "0PPPPPoP-oP---"),
];

/// What a method says to each caller.
pub(super) fn line(path: &str) -> Option<&'static str> {
    let name = path.strip_prefix("/tokenauthority.v1.")?;
    let found = TABLE.iter().find(|(method, _)| *method == name);
    found.map(|(_, letters)| *letters)
}
