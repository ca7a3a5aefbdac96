//! The response to a request that is not answered: a status and a message.

use axum::{
    Json,
    extract::{multipart::MultipartError, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::upload;
use crate::base::{Error, advice};

/// A response, or a refusal with a message.
pub type Answer<T> = Result<T, Refusal>;

pub struct Refusal(pub StatusCode, pub String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        refusal(self.0, &self.1)
    }
}

impl From<Error> for Refusal {
    fn from(e: Error) -> Self {
        let status = match e {
            Error::Usage(_) => StatusCode::BAD_REQUEST,
            Error::Stopped(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, advice::complete(e))
    }
}

impl From<QueryRejection> for Refusal {
    fn from(e: QueryRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, e.body_text())
    }
}

impl From<MultipartError> for Refusal {
    fn from(e: MultipartError) -> Self {
        match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            status => Self(status, format!("the upload cannot be read: {}", e.body_text())),
        }
    }
}

pub const NO_PAGE: &str = "there is no such page";

pub fn refusal(status: StatusCode, what: &str) -> Response {
    (status, Json(json!({ "error": what }))).into_response()
}

pub fn too_large() -> Refusal {
    Refusal(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("more than {} MiB; drop smaller images", upload::MOST_BYTES >> 20),
    )
}
