//! Who asked: `Forwarded` (RFC 7239) and the fields that older programs read.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Whether the peer's own word on who asked counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Trust {
    /// The peer is the client: what it claims is taken out.
    Nobody,
    /// The peer is a load balancer that was named: the chain goes on.
    Peer,
}

/// The peer of one connection; its address is printed once for all requests.
pub(in crate::proxy) struct Client {
    ip: IpAddr,
    listen: SocketAddr,
    address: HeaderValue,
    forwarded: HeaderValue,
}

impl Client {
    /// The peer `ip`, which connected to `listen`.
    pub(in crate::proxy) fn new(ip: IpAddr, listen: SocketAddr) -> Self {
        let ip = ip.to_canonical();
        let forwarded = match ip {
            IpAddr::V4(v4) => format!("for={v4};proto=http"),
            IpAddr::V6(v6) => format!("for=\"[{v6}]\";proto=http"),
        };
        Self {
            ip,
            listen,
            address: visible(ip.to_string()),
            forwarded: visible(forwarded),
        }
    }

    pub(in crate::proxy) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The address that the client connected to, as a `Host`.
    pub(super) fn connected_to(&self) -> HeaderValue {
        visible(self.listen.to_string())
    }

    /// Says in `headers` who asked.
    pub(super) fn set(&self, headers: &mut HeaderMap, trust: Trust) {
        if trust == Trust::Nobody {
            let claims: Vec<_> = headers
                .keys()
                .filter(|name| claims(name))
                .cloned()
                .collect();
            for name in claims {
                headers.remove(name);
            }
        }
        append(headers, FORWARDED, &self.forwarded);
        append(headers, X_FORWARDED_FOR, &self.address);
        let http = || HeaderValue::from_static("http");
        headers.entry(X_FORWARDED_PROTO).or_insert_with(http);
        let address = || self.address.clone();
        headers.entry(X_REAL_IP).or_insert_with(address);
    }
}

fn visible(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("addresses are visible ASCII")
}

/// Says whether a program behind the proxy may take the field for the proxy's word; CGI and its heirs see `_` for `-`.
fn claims(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    if !matches!(name.first(), Some(b'f' | b'x')) {
        return false;
    }
    let is = |other: &[u8]| {
        let dashed = |&byte: &u8| if byte == b'_' { b'-' } else { byte };
        name.iter()
            .map(dashed)
            .take(other.len())
            .eq(other.iter().copied())
    };
    name == b"forwarded" || is(b"x-forwarded-") || (is(b"x-real-ip") && name.len() == 9)
}

/// Adds `value` to the end of the list, in one line, since not every program joins several.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    let mut list = Vec::new();
    for before in headers.get_all(&name) {
        list.extend_from_slice(before.as_bytes());
        list.extend_from_slice(b", ");
    }
    let value = if list.is_empty() {
        value.clone()
    } else {
        list.extend_from_slice(value.as_bytes());
        HeaderValue::from_bytes(&list).expect("made of values")
    };
    headers.insert(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIMS: [(&str, &str); 6] = [
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-for", "10.0.0.2"),
        ("x-forwarded-host", "bank.example"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
    ];

    fn set(client: &str, trust: Trust) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in CLAIMS {
            headers.append(name, HeaderValue::from_static(value));
        }
        let listen = "192.0.2.1:80".parse().unwrap();
        Client::new(client.parse().unwrap(), listen).set(&mut headers, trust);
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let fields = headers.iter();
        let mut fields: Vec<_> = fields
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
        fields.sort();
        fields
    }

    fn is(fields: &[(String, String)], expected: &[(&str, &str)]) {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        assert_eq!(fields.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_a_client_claims_to_forward_is_replaced() {
        is(
            &set("::ffff:192.0.2.7", Trust::Nobody),
            &[
                ("forwarded", "for=192.0.2.7;proto=http"),
                ("x-forwarded-for", "192.0.2.7"),
                ("x-forwarded-proto", "http"),
                ("x-real-ip", "192.0.2.7"),
            ],
        );
    }

    #[test]
    fn the_chain_of_a_trusted_peer_goes_on() {
        is(
            &set("2001:db8::7", Trust::Peer),
            &[
                (
                    "forwarded",
                    "for=10.0.0.1, for=\"[2001:db8::7]\";proto=http",
                ),
                ("x-forwarded-for", "10.0.0.1, 10.0.0.2, 2001:db8::7"),
                ("x-forwarded-host", "bank.example"),
                ("x-forwarded-proto", "https"),
                ("x-real-ip", "10.0.0.1"),
            ],
        );
    }
}
