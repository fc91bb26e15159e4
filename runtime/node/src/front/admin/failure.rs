//! The one table from errors to HTTP.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use postroom_core::error::StoreError;

use super::wire;
use crate::front::calls::error_kind;

/// A refusal.
#[derive(Debug)]
pub struct Refusal(StatusCode, wire::Failure);

impl Refusal {
    /// A refusal of this API's own.
    pub fn new(status: StatusCode, kind: &str, error: impl Into<String>) -> Self {
        Self(status, wire::Failure { kind: kind.to_owned(), error: error.into() })
    }

    /// The request makes no sense.
    pub fn invalid(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", error)
    }

    /// Too much at once.
    pub fn busy(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error)
    }
}

/// What a program and a person are told of an error.
pub fn failure(error: &StoreError) -> wire::Failure {
    wire::Failure { kind: error_kind(error).to_owned(), error: error.to_string() }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::NotFound(_) => StatusCode::NOT_FOUND,
            StoreError::AlreadyExists(_) => StatusCode::CONFLICT,
            StoreError::AuthenticationFailed | StoreError::Denied(_) | StoreError::Refused(_) => {
                StatusCode::FORBIDDEN
            }
            StoreError::Invalid(_) => StatusCode::BAD_REQUEST,
            StoreError::Limit(_) => StatusCode::UNPROCESSABLE_ENTITY,
            StoreError::OverQuota => StatusCode::INSUFFICIENT_STORAGE,
            StoreError::Busy(_)
            | StoreError::Unavailable(_)
            | StoreError::Fenced
            | StoreError::UnknownOutcome => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Broken(_) | StoreError::Damaged(_) => StatusCode::INTERNAL_SERVER_ERROR,
            StoreError::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
        };
        Self(status, failure(&error))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}
