//! What the proxy changes in a head: hop-by-hop fields go (RFC 9110 §7.6.1), the fields that say who asked are set.

use std::net::IpAddr;

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Uri, Version};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields that are about one connection, whether `Connection` names them or not.
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Makes a client's head ready for a slot: in origin form, with one `Host`, without what was meant for the proxy.
///
/// What a client claims in the forwarding fields is replaced: the proxy is the edge.
pub(super) fn prepare(head: &mut Parts, client: IpAddr) -> Result<(), StatusCode> {
    if head.method == Method::CONNECT {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    settle_host(head)?;
    let upgrade = upgrade(&head.headers);
    strip(&mut head.headers);
    // The proxy itself asks the client to go on, when the slot's connection wants the body.
    head.headers.remove(EXPECT);
    if let Some(protocol) = upgrade {
        set_upgrade(&mut head.headers, protocol);
    }
    set_forwarded(&mut head.headers, client);
    head.version = Version::HTTP_11;
    Ok(())
}

/// Removes the hop-by-hop fields and those that `Connection` names. The framing is made anew on the next hop.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|token| token.parse().ok())
        // End-to-end by definition; naming them would change what the request means.
        .filter(|name| name != HOST && name != CONTENT_LENGTH)
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The protocol that the head asks to change to, if any. `h2c` is never passed on: inside such a tunnel requests
/// would go by unseen.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let refused = tokens(headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case("h2c"));
    headers.get(UPGRADE).filter(|_| wanted && !refused).cloned()
}

/// Sets the fields that ask for, or agree to, a change of protocol.
pub(super) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Exactly one `Host`, or the authority of an absolute target, which takes precedence (RFC 9112 §3.2).
fn settle_host(head: &mut Parts) -> Result<(), StatusCode> {
    if let Some(authority) = head.uri.authority() {
        let host =
            HeaderValue::from_str(authority.as_str()).map_err(|_| StatusCode::BAD_REQUEST)?;
        head.headers.insert(HOST, host);
        let target = head.uri.path_and_query().cloned();
        head.uri = target.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    match head.headers.get_all(HOST).iter().count() {
        1 => Ok(()),
        0 if head.version < Version::HTTP_11 => Ok(()),
        _ => Err(StatusCode::BAD_REQUEST),
    }
}

/// Says who asked (RFC 7239, and the fields that older programs read).
fn set_forwarded(headers: &mut HeaderMap, client: IpAddr) {
    let client = client.to_canonical();
    let forwarded = match client {
        IpAddr::V4(v4) => format!("for={v4};proto=http"),
        IpAddr::V6(v6) => format!("for=\"[{v6}]\";proto=http"),
    };
    for (name, value) in [
        (FORWARDED, forwarded),
        (X_FORWARDED_FOR, client.to_string()),
        (X_FORWARDED_PROTO, "http".to_owned()),
    ] {
        let value = HeaderValue::try_from(value).expect("addresses are visible ASCII");
        headers.insert(name, value);
    }
}

/// The comma-separated tokens of all fields called `name`.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = hyper::Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn prepared(uri: &str, fields: &[(&str, &str)]) -> Result<Parts, StatusCode> {
        let mut head = head(uri, fields);
        prepare(&mut head, "192.0.2.7".parse().unwrap()).map(|()| head)
    }

    #[test]
    fn hop_by_hop_fields_go_and_so_do_those_that_connection_names() {
        let head = prepared(
            "/",
            &[
                ("host", "example.org"),
                ("connection", "close, X-Secret"),
                ("connection", "x-other, host"),
                ("x-secret", "1"),
                ("x-other", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("te", "trailers"),
                ("transfer-encoding", "chunked"),
                ("expect", "100-continue"),
                ("x-kept", "1"),
            ],
        )
        .unwrap();
        let mut left: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                "forwarded",
                "host",
                "x-forwarded-for",
                "x-forwarded-proto",
                "x-kept"
            ]
        );
    }

    #[test]
    fn what_a_client_claims_to_forward_is_replaced() {
        let head = prepared(
            "/",
            &[
                ("host", "a"),
                ("x-forwarded-for", "10.0.0.1"),
                ("x-forwarded-for", "10.0.0.2"),
                ("forwarded", "for=10.0.0.1"),
            ],
        )
        .unwrap();
        let values: Vec<_> = head.headers.get_all(X_FORWARDED_FOR).iter().collect();
        assert_eq!(values, ["192.0.2.7"]);
        assert_eq!(head.headers[FORWARDED], "for=192.0.2.7;proto=http");
    }

    #[test]
    fn an_upgrade_is_passed_on_unless_it_is_h2c() {
        let asks = |protocol| {
            let fields = [
                ("host", "a"),
                ("connection", "Upgrade"),
                ("upgrade", protocol),
            ];
            prepared("/", &fields).unwrap().headers
        };
        assert_eq!(asks("websocket")[UPGRADE], "websocket");
        assert_eq!(asks("websocket")[CONNECTION], "upgrade");
        assert!(!asks("h2c").contains_key(UPGRADE));
        assert!(!asks("h2c").contains_key(CONNECTION));
    }

    #[test]
    fn a_request_has_exactly_one_host() {
        assert!(prepared("/", &[]).is_err());
        assert!(prepared("/", &[("host", "a"), ("host", "b")]).is_err());
        let head = prepared("http://b/x?y", &[("host", "a")]).unwrap();
        assert_eq!(head.headers[HOST], "b");
        assert_eq!(head.uri, "/x?y");
    }
}
