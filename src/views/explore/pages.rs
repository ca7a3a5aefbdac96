//! The response to each request.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query as UrlQuery, Request, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task};

use super::{
    Explorer, Subject,
    nearest::{bits, nearest},
    receive::{files_of, receive},
    refusal::{Answer, NO_PAGE, Refusal, refusal},
    stores::SampleImage,
    table::Query,
    upload,
};
use crate::{
    base::Error,
    data::labels::{CLASSES, NAMES},
};

type Shared = State<Arc<Explorer>>;
/// Kind and number of a [`Subject`].
type SubjectPath = Path<(String, String)>;
type TableQuery = Result<UrlQuery<Query>, QueryRejection>;

pub async fn index() -> Html<&'static str> {
    Html(include_str!("assets/index.html"))
}

/// The files of the page, by name.
const ASSETS: [(&str, &str, &str); 6] = [
    ("explore.css", "text/css; charset=utf-8", include_str!("assets/explore.css")),
    ("explore.js", SCRIPT, include_str!("assets/explore.js")),
    ("page.js", SCRIPT, include_str!("assets/page.js")),
    ("image.js", SCRIPT, include_str!("assets/image.js")),
    ("sample.js", SCRIPT, include_str!("assets/sample.js")),
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";

pub async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|asset| asset.0 == name) {
        Some((_, kind, text)) => ([(header::CONTENT_TYPE, *kind)], *text).into_response(),
        None => refusal(StatusCode::NOT_FOUND, NO_PAGE),
    }
}

/// What the page needs to start.
pub async fn run(State(explorer): Shared) -> Json<Value> {
    let rows = &explorer.table.rows;
    let classes: Vec<Value> = (0..CLASSES)
        .map(|c| {
            let samples = rows.iter().filter(|row| row.truth.contains(c)).count();
            json!({ "name": NAMES[c], "threshold": explorer.thresholds[c], "samples": samples })
        })
        .collect();
    Json(json!({
        "run": explorer.run.name(),
        "classes": classes,
        "method": explorer.method,
        "folds": explorer.folds,
        "train": explorer.stores.train.len(),
        "test": explorer.stores.test.len(),
        "radius": explorer.dedup_radius,
        "upload_bytes": upload::MOST_BYTES,
    }))
}

/// Most samples in one response.
const MOST_ROWS: usize = 500;

pub async fn samples(State(explorer): Shared, query: TableQuery) -> Answer<Json<Value>> {
    let query = checked(query)?;
    let count = query.count.min(MOST_ROWS);
    blocking(move || {
        let selected = query.select(&explorer.table);
        let page = selected.iter().skip(query.from).take(count);
        let rows: Vec<_> = page.map(|&i| explorer.table.summary(i, query.class)).collect();
        Ok(Json(json!({ "total": selected.len(), "rows": rows })))
    })
    .await
}

pub async fn csv(State(explorer): Shared, query: TableQuery) -> Answer<Response> {
    let query = checked(query)?;
    let bytes = blocking(move || {
        Ok(explorer.table.csv(&query.select(&explorer.table)).map_err(Error::failed)?)
    })
    .await?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"samples.csv\""),
    ];
    Ok((headers, bytes).into_response())
}

fn checked(query: TableQuery) -> Answer<Query> {
    let UrlQuery(query) = query?;
    match query.class {
        Some(class) if class >= CLASSES => Err(Refusal(
            StatusCode::BAD_REQUEST,
            format!("there is no class {class}; they go from 0 to {}", CLASSES - 1),
        )),
        _ => Ok(query),
    }
}

/// The row and the stored probabilities of a sample.
pub async fn sample(State(explorer): Shared, Path(number): Path<String>) -> Answer<Json<Value>> {
    let Subject::Sample(i) = subject(&explorer, &("samples".into(), number))? else {
        unreachable!("samples are samples")
    };
    let has_prediction = explorer.table.rows[i].has_prediction;
    let probabilities = has_prediction.then(|| explorer.table.probabilities.row(i).to_vec());
    Ok(Json(json!({ "sample": explorer.table.summary(i, None), "probabilities": probabilities })))
}

/// Bytes u8 `[size, size, 4]`.
pub async fn image(State(explorer): Shared, Path(path): SubjectPath) -> Answer<Response> {
    let subject = subject(&explorer, &path)?;
    blocking(move || Ok(bytes(explorer.image(subject)?))).await
}

/// The same, scaled down to at most the size of a thumbnail.
pub async fn thumbnail(State(explorer): Shared, Path(path): SubjectPath) -> Answer<Response> {
    let subject = subject(&explorer, &path)?;
    blocking(move || Ok(bytes(explorer.thumbnail(subject)?))).await
}

fn bytes(image: SampleImage) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], image.pixels).into_response()
}

/// Predictions and activation maps, computed now.
pub async fn prediction(State(explorer): Shared, Path(path): SubjectPath) -> Answer<Response> {
    let subject = subject(&explorer, &path)?;
    let (shared, folds) = (explorer.clone(), explorer.folds_for(subject));
    let image = blocking(move || Ok(shared.image(subject)?)).await?;
    Ok(Json(explorer.inference_worker.predict(image, folds).await?).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    by: Similarity,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Similarity {
    Hash,
    Embedding,
}

/// Neighbours that are shown.
const NEIGHBOURS: usize = 12;

/// The most similar samples, by hash or by embedding; by embedding, among those embedded so far.
pub async fn neighbours(
    State(explorer): Shared,
    Path(path): SubjectPath,
    by: Result<UrlQuery<By>, QueryRejection>,
) -> Answer<Json<Value>> {
    let UrlQuery(By { by }) = by?;
    let subject = subject(&explorer, &path)?;
    let own = match subject {
        Subject::Sample(i) => Some(i),
        Subject::Upload(_) => None,
    };
    match by {
        Similarity::Hash => blocking(move || by_hash(&explorer, subject, own)).await,
        Similarity::Embedding => by_embedding(explorer, subject, own).await,
    }
}

fn by_hash(explorer: &Explorer, subject: Subject, own: Option<usize>) -> Answer<Json<Value>> {
    let hashes = explorer.hashes(subject)?;
    let found =
        nearest(explorer.sample_count(), own, NEIGHBOURS, |i| bits(hashes, explorer.hash_of(i)));
    let row = |&(i, bits): &(usize, u32)| {
        let sample = explorer.table.summary(i, None);
        json!({ "sample": sample, "bits": bits })
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    Ok(Json(
        json!({ "rows": rows, "done": explorer.sample_count(), "of": explorer.sample_count() }),
    ))
}

async fn by_embedding(
    explorer: Arc<Explorer>,
    subject: Subject,
    own: Option<usize>,
) -> Answer<Json<Value>> {
    explorer.inference_worker.embed_all();
    let embedding = match own.and_then(|i| explorer.inference_worker.embeddings.get(i)) {
        Some(embedding) => embedding,
        None => {
            let shared = explorer.clone();
            let image = blocking(move || Ok(shared.image(subject)?)).await?;
            explorer.inference_worker.embed(image).await?
        }
    };
    blocking(move || {
        let embeddings = &explorer.inference_worker.embeddings;
        let found = embeddings.nearest(&embedding, own, NEIGHBOURS);
        let row = |&(i, cosine): &(usize, f32)| {
            json!({ "sample": explorer.table.summary(i, None), "cosine": cosine })
        };
        let rows: Vec<_> = found.iter().map(row).collect();
        let of = explorer.sample_count().min(embeddings.room().unwrap_or(usize::MAX));
        Ok(Json(json!({ "rows": rows, "done": embeddings.len(), "of": of })))
    })
    .await
}

/// One upload is decoded at a time, which bounds memory.
static DECODING: Semaphore = Semaphore::const_new(1);

/// Accepts one or four image files; responds with the number of the upload.
pub async fn upload(State(explorer): Shared, request: Request) -> Answer<Response> {
    let (request, room) = receive(request).await?;
    let turn = DECODING.acquire().await.map_err(ending)?;
    let files = files_of(request).await?;
    blocking(move || {
        // Held until the images are read, even if the client has disconnected.
        let _held = (room, turn);
        let size = explorer.stores.train.size();
        let upload = upload::read(files, explorer.max_pixels_side, size)
            .map_err(|e| Refusal(StatusCode::BAD_REQUEST, e.to_string()))?;
        let number = explorer.uploads().add(upload);
        Ok((StatusCode::CREATED, Json(json!({ "number": number }))).into_response())
    })
    .await
}

/// The subject of the address part `kind/number`, where `kind` is `samples` or `uploads`. Both are
/// looked up, never made into a path.
fn subject(explorer: &Explorer, (kind, number): &(String, String)) -> Answer<Subject> {
    let samples = explorer.sample_count();
    let (found, what) = match kind.as_str() {
        "samples" => (
            number.parse().ok().filter(|&i| i < samples).map(Subject::Sample),
            format!("there is no such sample; they go from 0 to {}", samples.saturating_sub(1)),
        ),
        "uploads" => (
            number
                .parse()
                .ok()
                .filter(|&i| explorer.uploads().find(i).is_ok())
                .map(Subject::Upload),
            upload::forgotten().to_string(),
        ),
        _ => (None, NO_PAGE.into()),
    };
    found.ok_or(Refusal(StatusCode::NOT_FOUND, what))
}

/// Runs work that reads files or searches tables on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    task::spawn_blocking(work).await.unwrap_or_else(|e| Err(ending(e)))
}

fn ending<E>(_: E) -> Refusal {
    Refusal(StatusCode::SERVICE_UNAVAILABLE, "the explorer is ending".into())
}
