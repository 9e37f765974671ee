//! Which web pages may call an HTTP port from a browser (CORS).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};

/// How long a browser may keep the answer to its question, in seconds.
const MAX_AGE: &str = "1800";

/// Guards `router`: pages of the origins named (`https://host:port`, or `*` for all) may call it. What pages from
/// elsewhere want to change is refused here, since a browser sends some of it without asking first. Programs that are
/// no browsers send no origin and pass.
pub fn guarded(router: Router, origins: &[String]) -> Router {
    let origins: Arc<[String]> = origins.into();
    router.layer(middleware::from_fn_with_state(origins, check))
}

async fn check(State(origins): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(ORIGIN).cloned() else { return next.run(request).await };
    let known = origins.iter().any(|known| known == "*" || known.as_bytes() == origin.as_bytes());
    let asks = request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let mut response = if request.method() == Method::OPTIONS && asks {
        StatusCode::NO_CONTENT.into_response()
    } else if known || reads || is_own(&request, &origin) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "pages of this origin may not change anything here\n").into_response()
    };
    response.headers_mut().append(VARY, HeaderValue::from_static("Origin"));
    if known {
        allow(&mut response, origin);
    }
    response
}

/// Whether a page of this very port asks.
fn is_own(request: &Request, origin: &HeaderValue) -> bool {
    let host = request.headers().get(HOST).map(HeaderValue::as_bytes);
    let origin = origin.as_bytes();
    let from = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    host.is_some() && host == from
}

fn allow(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, PUT, POST, DELETE"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type, X-Requested-With"),
        (ACCESS_CONTROL_EXPOSE_HEADERS, "Location"),
        (ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::any;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    async fn ask(origins: &[&str], method: &str, headers: &[(&str, &str)]) -> Response {
        use hyper::service::Service;
        let origins: Vec<String> = origins.iter().map(ToString::to_string).collect();
        let router = guarded(Router::new().route("/", any(|| async { "done" })), &origins);
        let mut request = axum::http::Request::builder().method(method).uri("/").header(HOST, "nn:9870");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        TowerToHyperService::new(router).call(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    fn allowed(response: &Response) -> Option<&str> {
        response.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap())
    }

    const PAGE: (&str, &str) = ("origin", "https://page.example");

    #[tokio::test]
    async fn by_default_no_page_from_elsewhere_reads_or_changes() {
        let read = ask(&[], "GET", &[PAGE]).await;
        assert_eq!((read.status(), allowed(&read)), (StatusCode::OK, None));
        assert_eq!(ask(&[], "POST", &[PAGE]).await.status(), StatusCode::FORBIDDEN);
        assert_eq!(ask(&[], "POST", &[]).await.status(), StatusCode::OK);
        assert_eq!(ask(&[], "POST", &[("origin", "http://nn:9870")]).await.status(), StatusCode::OK);
        let question = ask(&[], "OPTIONS", &[PAGE, ("access-control-request-method", "PUT")]).await;
        assert_eq!(allowed(&question), None);
    }

    #[tokio::test]
    async fn pages_of_the_origins_named_may() {
        for origins in [&["https://page.example"], &["*"]] {
            let question = ask(origins, "OPTIONS", &[PAGE, ("access-control-request-method", "PUT")]).await;
            assert_eq!(question.status(), StatusCode::NO_CONTENT);
            assert_eq!(allowed(&question), Some("https://page.example"));
            assert!(question.headers()[ACCESS_CONTROL_ALLOW_METHODS].to_str().unwrap().contains("PUT"));
            let change = ask(origins, "PUT", &[PAGE]).await;
            assert_eq!((change.status(), allowed(&change)), (StatusCode::OK, Some("https://page.example")));
        }
        let other = ask(&["https://else.example"], "PUT", &[PAGE]).await;
        assert_eq!((other.status(), allowed(&other)), (StatusCode::FORBIDDEN, None));
    }
}
