//! Tokens that a stranger signed with keys of its own, and good tokens where no credential is looked for.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use token_authority::{
    domain::jwt::{Algorithm, VerifyingKey},
    proto,
};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::{AsciiMetadataKey, BinaryMetadataKey, MetadataValue},
};

use super::{are_nothing, thief};
use crate::support::{Forger, Server, both, claims_of, refused, unsigned};

/// A stranger's P-256 key.
struct Stranger(EcdsaKeyPair);

impl Stranger {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn public(&self) -> VerifyingKey {
        VerifyingKey::new(Algorithm::Es256, self.0.public_key().as_ref()).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header.to_string(), claims.to_string());
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap()))
    }
}

/// What a header may offer to have a key believed.
fn offers(jwk: &Value, public: &[u8]) -> Vec<Value> {
    vec![
        json!({}),
        json!({ "jwk": jwk }),
        json!({ "jku": "https://evil.example/jwks.json" }),
        json!({ "x5u": "https://evil.example/chain.pem" }),
        json!({ "x5c": [STANDARD.encode(public)] }),
        json!({ "x5t": URL_SAFE_NO_PAD.encode(&public[..20]), "x5t#S256": URL_SAFE_NO_PAD.encode(&public[..32]) }),
        json!({ "jwk": jwk, "jku": "https://evil.example/jwks.json", "crit": ["jwk"] }),
    ]
}

both!(
    j04_j08_j10_a_key_of_ones_own_is_nobodys_whatever_the_header_offers,
    async |server| {
        let (good, thief) = thief(server).await;
        let claims = claims_of(&good);
        let (es256, eddsa) = (Stranger::new(), Forger::with_own_key(&good));
        let of_es256 = es256.public();
        let of_eddsa = VerifyingKey::new(Algorithm::EdDsa, &eddsa.public).unwrap();
        let kids = [
            thief.kid.clone(),
            of_es256.id().to_string(),
            eddsa.kid.clone(),
            "https://evil.example/jwks.json".to_owned(),
        ];
        let mut tokens = Vec::new();
        for public in [&of_es256, &of_eddsa] {
            for offer in offers(&public.to_jwk(), public.public_bytes()) {
                for kid in &kids {
                    for alg in ["ES256", "EdDSA"] {
                        let mut header = json!({ "alg": alg, "typ": "at+jwt", "kid": kid });
                        let members = offer.as_object().unwrap().clone();
                        header.as_object_mut().unwrap().extend(members);
                        tokens.push(es256.sign(&header, &claims));
                        tokens.push(eddsa.sign(header.to_string(), claims.to_string()));
                    }
                }
            }
        }
        assert_eq!(tokens.len(), 2 * 7 * 4 * 2 * 2);
        are_nothing(server, &good, &tokens).await;
        let told = server.introspect(&good, tokens.last().unwrap()).await;
        assert_eq!(told.active, Some(false));
    }
);

/// Asks who is calling, at this path and with these metadata.
async fn who(server: &Server, path: &str, metadata: &[(&str, String)]) -> Result<(), Status> {
    let mut client = Grpc::new(server.connect().await);
    client.ready().await.unwrap();
    let mut request = Request::new(proto::GetCallerIdentityRequest {});
    for (name, value) in metadata {
        if name.ends_with("-bin") {
            let name: BinaryMetadataKey = name.parse().unwrap();
            let value = MetadataValue::from_bytes(value.as_bytes());
            request.metadata_mut().insert_bin(name, value);
        } else {
            let name: AsciiMetadataKey = name.parse().unwrap();
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
    }
    let codec = tonic_prost::ProstCodec::<_, proto::GetCallerIdentityResponse>::default();
    let path = path.parse::<PathAndQuery>().unwrap();
    let answer: Result<tonic::Response<proto::GetCallerIdentityResponse>, Status> =
        client.unary(request, path, codec).await;
    answer.map(drop)
}

const WHO: &str = "/tokenauthority.v1.TokenService/GetCallerIdentity";

both!(
    j33_a_token_is_taken_from_the_authorization_metadata_alone,
    async |server| {
        let good = server.admin().await.access_token;
        let bearer = format!("Bearer {good}");
        who(server, WHO, &[("authorization", bearer.clone())])
            .await
            .unwrap();
        // A query is no part of the method, and no credential.
        let ignored = format!("{WHO}?access_token=nonsense");
        who(server, &ignored, &[("authorization", bearer.clone())])
            .await
            .unwrap();
        for name in [
            "access_token",
            "token",
            "api_token",
            "authorization",
            "bearer",
        ] {
            let path = format!("{WHO}?{name}={good}");
            refused(
                who(server, &path, &[]).await,
                Code::Unauthenticated,
                "CREDENTIALS_MISSING",
            );
        }
        for name in [
            "proxy-authorization",
            "x-authorization",
            "x-forwarded-authorization",
            "grpc-metadata-authorization",
            "authorization-bin",
            "authentication",
            "x-api-key",
            "api-key",
            "x-undb-api-token",
            "x-access-token",
            "access_token",
            "cookie",
        ] {
            for value in [&good, &bearer, &format!("access_token={good}")] {
                let answer = who(server, WHO, &[(name, value.clone())]).await;
                refused(answer, Code::Unauthenticated, "CREDENTIALS_MISSING");
            }
        }
    }
);
