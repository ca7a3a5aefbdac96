//! The HTTP server: its routes, and the rules for all of them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use super::{
    Explorer, connections,
    guard::{self, Guard, Verdict},
    pages,
    refusal::{NO_PAGE, refusal},
    upload,
};
use crate::base::{Error, Result, host, stop_request::Stop};

/// The default port of the explorer.
pub const PORT: u16 = 8642;

/// A listening socket, and the URL to open.
pub struct Server {
    listener: TcpListener,
    pub url: String,
    guard: Arc<Guard>,
}

/// Threads that read images and search tables; each holds one image.
const READERS: usize = 4;
/// How long requests in progress may delay the end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

impl Server {
    /// Listens on `port` (0: any free one), on the loopback address or, with a random token that
    /// every request has to carry, on `host`. `guarded` requires the token on the loopback address,
    /// too.
    ///
    /// # Errors
    /// Usage where the port is taken or may not be used.
    pub fn bind(host: Option<IpAddr>, port: u16, guarded: bool) -> Result<Self> {
        let address = host.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let what = |e| {
            Error::usage(format!(
                "cannot listen on {address}, port {port} ({e}); name another with --port, or any \
                    by --port 0"
            ))
        };
        let listener = TcpListener::bind(SocketAddr::new(address, port)).map_err(what)?;
        let at = listener.local_addr().map_err(Error::failed)?;
        let token = (guarded || host.is_some()).then(guard::random_token);
        let query = token.as_ref().map_or(String::new(), |token| format!("?token={token}"));
        let guard = Arc::new(Guard::new(address, at.port(), token));
        // 0.0.0.0 cannot be opened in a browser.
        let place = if address.is_unspecified() {
            format!("{}:{}", host::name(), at.port())
        } else {
            at.to_string()
        };
        Ok(Self { listener, url: format!("http://{place}/{query}"), guard })
    }

    /// Serves requests until `stop`.
    pub fn run(self, explorer: Explorer, stop: &'static Stop) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(READERS)
            .enable_all()
            .build()
            .map_err(Error::failed)?;
        let explorer = Arc::new(explorer);
        let app = router(explorer.clone(), self.guard);
        let asked = move || async move {
            while !stop.asked() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let served = runtime.block_on(async {
            self.listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            let late = async move {
                asked().await;
                tokio::time::sleep(LAST_ANSWERS).await;
            };
            tokio::select! {
                () = connections::serve(listener, app, asked()) => {}
                () = late => {}
            }
            Ok(())
        });
        runtime.shutdown_timeout(LAST_ANSWERS);
        served.map_err(|e: io::Error| Error::failed(e))
    }
}

fn router(explorer: Arc<Explorer>, guard: Arc<Guard>) -> Router {
    Router::new()
        .route("/", get(pages::index))
        .route("/{asset}", get(pages::asset))
        .route("/api/run", get(pages::run))
        .route("/api/samples", get(pages::samples))
        .route("/api/samples.csv", get(pages::csv))
        .route("/api/uploads", post(pages::upload))
        .route("/api/{kind}/{number}/image", get(pages::image))
        .route("/api/{kind}/{number}/thumbnail", get(pages::thumbnail))
        .route("/api/{kind}/{number}/prediction", get(pages::prediction))
        .route("/api/{kind}/{number}/neighbours", get(pages::neighbours))
        .route("/api/samples/{number}", get(pages::sample))
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, NO_PAGE) })
        .method_not_allowed_fallback(|| async {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "this page does not take such requests")
        })
        .layer(DefaultBodyLimit::max(upload::MOST_BYTES))
        .layer(middleware::from_fn_with_state(guard, guarded))
        .with_state(explorer)
}

/// The page may only load and contact its own server, and no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

async fn guarded(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.check(request.method(), request.uri(), request.headers()) {
        Verdict::Pass => next.run(request).await,
        Verdict::Enter { cookie } => {
            (StatusCode::SEE_OTHER, [(header::LOCATION, "/"), (header::SET_COOKIE, &cookie)])
                .into_response()
        }
        // Without a connection to keep: no other request can be hidden behind this one.
        Verdict::Refuse(status, what) => {
            ([(header::CONNECTION, "close")], refusal(status, what)).into_response()
        }
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
