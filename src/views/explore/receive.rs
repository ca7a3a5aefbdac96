//! The body of an upload while it arrives. Any number of uploads arrive beside each other; what is
//! bounded is the memory of all of them, and the time of each.

use std::{future::poll_fn, pin::Pin, time::Duration};

use axum::{
    body::{Body, HttpBody},
    extract::{FromRequest, Multipart, Request},
    http::{StatusCode, header},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{self, Instant},
};

use super::{
    refusal::{Answer, Refusal, too_large},
    upload::{MOST_BYTES, UploadedFile},
};

/// Bytes of all uploads that are arriving or wait to be read.
static ROOM: Semaphore = Semaphore::const_new(4 * MOST_BYTES);

/// How long an upload may take, and the bytes in a second for which it may take longer.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(20);
const MIN_RATE: f64 = 65_536.0;

/// The whole request. Its bytes count until the permit is dropped.
pub async fn receive(request: Request) -> Answer<(Request, SemaphorePermit<'static>)> {
    let busy = |_| {
        let what = "too many uploads arrive at once; try again in a moment".into();
        Refusal(StatusCode::SERVICE_UNAVAILABLE, what)
    };
    let slow =
        |_| Refusal(StatusCode::REQUEST_TIMEOUT, "the upload took too long; try again".into());
    let broken = |e| Refusal(StatusCode::BAD_REQUEST, format!("the upload cannot be read: {e}"));
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > MOST_BYTES) {
        return Err(too_large());
    }
    let (head, mut body) = request.into_parts();
    let (began, mut bytes) = (Instant::now(), Vec::new());
    let mut room = ROOM.try_acquire_many(0).map_err(busy)?;
    loop {
        let more = Duration::from_secs_f64(bytes.len() as f64 / MIN_RATE);
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let frame = time::timeout_at(began + UPLOAD_TIMEOUT + more, frame).await.map_err(slow)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        room.merge(ROOM.try_acquire_many(data.len() as u32).map_err(busy)?);
        bytes.extend_from_slice(&data);
    }
    Ok((Request::from_parts(head, Body::from(bytes)), room))
}

/// The files of a request that was received.
pub async fn files_of(request: Request) -> Answer<Vec<UploadedFile>> {
    let refuse = |what: &str| Refusal(StatusCode::BAD_REQUEST, what.into());
    let mut parts = Multipart::from_request(request, &())
        .await
        .map_err(|_| refuse("expected files as multipart/form-data"))?;
    let mut files = Vec::new();
    while let Some(part) = parts.next_field().await? {
        if files.len() == 4 {
            return Err(refuse(
                "more than four files; expected four (red, green, blue, yellow) or one colour \
                    image",
            ));
        }
        let name = part
            .file_name()
            .ok_or_else(|| refuse("a part of the upload is not a file"))?
            .to_string();
        files.push(UploadedFile { name, bytes: part.bytes().await?.into() });
    }
    Ok(files)
}
