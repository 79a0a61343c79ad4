//! What the proxy changes in a head: hop-by-hop fields go (RFC 9110 §7.6.1), the fields that say who asked are set.

mod forwarded;

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, StatusCode, Uri, Version};

pub(super) use forwarded::{Client, Trust};

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
/// Returns the protocol that the client asks to change to, if any.
pub(super) fn prepare(
    head: &mut Parts,
    client: &Client,
    trust: Trust,
) -> Result<Option<HeaderValue>, StatusCode> {
    if head.method == Method::CONNECT {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    refuse_codings(&head.headers)?;
    settle_host(head, client)?;
    let upgrade = upgrade(&head.headers);
    strip(&mut head.headers);
    // The proxy itself asks the client to go on, when the slot's connection wants the body.
    head.headers.remove(EXPECT);
    if let Some(protocol) = &upgrade {
        set_upgrade(&mut head.headers, protocol.clone());
    }
    client.set(&mut head.headers, trust);
    head.version = Version::HTTP_11;
    Ok(upgrade)
}

/// Refuses a body in any transfer coding but `chunked`, which the next hop would have to undo (RFC 9112 §6.1). A list
/// that does not end in `chunked` never gets here: hyper answers 400, as §6.3 wants.
fn refuse_codings(headers: &HeaderMap) -> Result<(), StatusCode> {
    let mut codings = tokens(headers, &TRANSFER_ENCODING);
    let fine = codings
        .next()
        .is_none_or(|coding| coding.eq_ignore_ascii_case("chunked"));
    if fine && codings.next().is_none() {
        Ok(())
    } else {
        Err(StatusCode::NOT_IMPLEMENTED)
    }
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

/// Exactly one `Host` that names one, or the authority of an absolute target, which takes precedence (RFC 9112 §3.2).
/// A client of HTTP/1.0 may leave it out; what it connected to stands in for it.
fn settle_host(head: &mut Parts, client: &Client) -> Result<(), StatusCode> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host) => None,
        (None, _) if head.version < Version::HTTP_11 => Some(client.connected_to()),
        _ => return Err(StatusCode::BAD_REQUEST),
    };
    if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str());
        let host = host.ok().filter(is_host).ok_or(StatusCode::BAD_REQUEST)?;
        head.headers.insert(HOST, host);
        let target = head.uri.path_and_query().cloned();
        head.uri = target.map_or_else(|| Uri::from_static("/"), Uri::from);
    } else if let Some(host) = host {
        head.headers.insert(HOST, host);
    }
    Ok(())
}

/// Says whether the value is a host, with or without a port; one with a user's name before it is none.
fn is_host(value: &HeaderValue) -> bool {
    Authority::try_from(value.as_bytes()).is_ok_and(|authority| {
        let host = authority.host();
        let port = authority.as_str().strip_prefix(host);
        let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let port =
            port.is_some_and(|port| port.is_empty() || port.strip_prefix(':').is_some_and(digits));
        port && !host.is_empty()
    })
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
        let client = Client::new(
            "192.0.2.7".parse().unwrap(),
            "192.0.2.1:80".parse().unwrap(),
        );
        prepare(&mut head, &client, Trust::Nobody).map(|_| head)
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
                ("x-forwarded-prefix", "/mine"),
                ("x_forwarded_for", "6.6.6.6"),
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
                "x-kept",
                "x-real-ip"
            ]
        );
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
        for none in ["", "a b", "user@a", "a/b", "a:port", "[::1"] {
            assert!(prepared("/", &[("host", none)]).is_err(), "{none}");
        }
        for host in ["a", "a.example:8080", "127.0.0.1", "[::1]:80", "a_b"] {
            assert!(prepared("/", &[("host", host)]).is_ok(), "{host}");
        }
        let head = prepared("http://b/x?y", &[("host", "a")]).unwrap();
        assert_eq!(head.headers[HOST], "b");
        assert_eq!(head.uri, "/x?y");
    }

    #[test]
    fn any_coding_but_chunked_alone_is_not_implemented() {
        let coded = |value| prepared("/", &[("host", "a"), ("transfer-encoding", value)]);
        assert!(coded("Chunked").is_ok());
        for value in ["gzip, chunked", "chunked, chunked", "identity"] {
            assert_eq!(coded(value).unwrap_err(), StatusCode::NOT_IMPLEMENTED);
        }
    }
}
