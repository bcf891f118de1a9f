//! Which connections are kept, which are closed to make room, and which are refused.

use super::*;

fn bounds(all: u32, share: u32) -> Bounds {
    Bounds {
        connections_max: all,
        connections_per_address_max: share,
        ..Bounds::default()
    }
}

fn enter<'a>(
    places: &'a Places,
    address: &str,
    bounds: &Bounds,
) -> Result<ConnectionPlace<'a>, Full> {
    places.connection(Some(address.parse().unwrap()), bounds)
}

/// Whether the place was given to another connection.
fn is_gone(place: &ConnectionPlace<'_>) -> bool {
    !place.places.table().by_number.contains_key(&place.number)
}

/// R-6.3.1-3a: in a full network the oldest connection that has proven nothing is closed, and no other;
/// a released place is free again, and nothing is kept of closed connections.
#[test]
fn the_oldest_that_proved_nothing_makes_room() {
    let places = Places::default();
    let bounds = bounds(3, 9);
    let first = enter(&places, "192.0.2.1", &bounds).unwrap();
    let second = enter(&places, "192.0.2.2", &bounds).unwrap();
    let third = enter(&places, "192.0.2.3", &bounds).unwrap();
    first.has_certificate();
    second.is_answered(&bounds);
    let fourth = enter(&places, "192.0.2.4", &bounds).unwrap();
    let gone = [&first, &second, &third, &fourth].map(is_gone);
    assert_eq!(gone, [false, false, true, false]);
    second.waits();
    let fifth = enter(&places, "192.0.2.5", &bounds).unwrap();
    assert!(is_gone(&second) && !is_gone(&fourth), "it came before");
    assert!(fourth.has_proven(ConnectionProof::Party, &bounds));
    assert!(fifth.has_proven(ConnectionProof::Party, &bounds));
    assert_eq!(
        enter(&places, "192.0.2.6", &bounds).err(),
        Some(Full::Whole)
    );
    drop(first);
    assert!(enter(&places, "192.0.2.6", &bounds).is_ok());
    drop((second, third, fourth, fifth));
    let table = places.table();
    assert!(table.by_number.is_empty() && table.by_network.is_empty());
    assert_eq!(table.kept, 0);
}

/// R-6.3.1-3a: of IPv6 a /64 counts as one address, a /56 as two, a /48 as four.
#[test]
fn a_subscriber_has_its_share_however_large_its_network() {
    let places = Places::default();
    let bounds = bounds(99, 2);
    let mut held = Vec::new();
    for (address, full) in [
        ("2001:db8:0:0::1", None),
        ("2001:db8:0:0::2", None),
        ("2001:db8:0:0::3", Some(Full::Address)),
        ("2001:db8:0:1::1", None),
        ("2001:db8:0:2::1", None),
        ("2001:db8:0:3::1", Some(Full::Address)),
        ("2001:db8:0:100::1", None),
        ("2001:db8:0:100::2", None),
        ("2001:db8:0:200::1", None),
        ("2001:db8:0:300::1", None),
        ("2001:db8:0:400::1", Some(Full::Address)),
        ("2001:db8:1::1", None),
        ("::ffff:192.0.2.1", None),
        ("192.0.2.1", None),
        ("192.0.2.1", Some(Full::Address)),
    ] {
        let place = enter(&places, address, &bounds);
        assert_eq!(place.as_ref().err().copied(), full, "{address}");
        if let Ok(place) = place {
            place.has_certificate();
            held.push(place);
        }
    }
}

/// R-6.3.1-3a: proof in requests never keeps the last connections: a client with an enrolled certificate
/// is accepted beside any number of them.
#[test]
fn a_reserve_is_left_to_enrolled_certificates() {
    let places = Places::default();
    let bounds = bounds(8, 99);
    let crowd: Vec<_> = (0..8)
        .map(|_| enter(&places, "192.0.2.1", &bounds).unwrap())
        .collect();
    let proven = crowd
        .iter()
        .filter(|place| place.has_proven(ConnectionProof::Party, &bounds));
    assert_eq!(proven.count(), 7);
    let enrolled = enter(&places, "192.0.2.2", &bounds).unwrap();
    enrolled.has_certificate();
    assert_eq!(crowd.iter().filter(|place| is_gone(place)).count(), 1);
    assert_eq!(
        enter(&places, "192.0.2.3", &bounds).err(),
        Some(Full::Whole)
    );
}

/// R-6.3.1-3a: the address of one payer's page keeps a few connections, all payers' pages a quarter of
/// all; the rest are closed to make room, and merchants keep theirs beside them.
#[test]
fn one_payer_holds_only_a_few_places() {
    let places = Places::default();
    let bounds = bounds(64, 99);
    let mut crowd = Vec::new();
    let mut proving = |page, count: u32| {
        let came = (0..count).map(|_| enter(&places, "192.0.2.1", &bounds).unwrap());
        let came: Vec<_> = came.collect();
        let proven = came.iter();
        let proven = proven.filter(|place| place.has_proven(ConnectionProof::Payer(page), &bounds));
        let proven = proven.count();
        crowd.extend(came);
        proven
    };
    assert_eq!(proving(1, 20), 8);
    assert_eq!([proving(2, 6), proving(3, 6)], [6, 2]);
    let merchants: Vec<_> = (0..40)
        .map(|_| enter(&places, "192.0.2.2", &bounds).unwrap())
        .collect();
    let mut merchants_proven = merchants.iter();
    assert!(merchants_proven.all(|place| place.has_proven(ConnectionProof::Party, &bounds)));
    assert!(crowd.iter().any(is_gone));
}

/// R-6.3.1-3a: requests in progress do not keep the last connections either: one can always be closed
/// for an enrolled certificate.
#[test]
fn answers_in_the_making_leave_the_reserve() {
    let places = Places::default();
    let bounds = bounds(8, 99);
    let crowd: Vec<_> = (0..8)
        .map(|_| enter(&places, "192.0.2.1", &bounds).unwrap())
        .collect();
    for place in &crowd {
        place.is_answered(&bounds);
    }
    let enrolled = enter(&places, "192.0.2.2", &bounds).unwrap();
    enrolled.has_certificate();
    let gone: Vec<_> = crowd.iter().map(is_gone).collect();
    assert_eq!(gone, [[false; 7].as_slice(), &[true]].concat());
    crowd.iter().for_each(ConnectionPlace::waits);
    assert_eq!(places.table().kept, 0);
}

/// R-6.3.1-3a: behind a proxy a connection is of no network until its client is known, then of that client's
/// as if it had come from there; nothing is counted for one that was closed before.
#[test]
fn a_proxied_connection_is_counted_for_its_client() {
    let places = Places::default();
    let (bounds, client) = (bounds(9, 1), "192.0.2.1".parse().unwrap());
    let unknown: Vec<_> = (0..3)
        .map(|_| places.connection(None, &bounds).unwrap())
        .collect();
    assert_eq!(unknown[0].count_for(client, &bounds), Ok(()));
    assert_eq!(unknown[1].count_for(client, &bounds), Ok(()));
    assert!(is_gone(&unknown[0]) && !is_gone(&unknown[1]));
    unknown[1].has_certificate();
    assert_eq!(
        unknown[2].count_for(client, &bounds),
        Err(Full::Address),
        "it has proven something"
    );
    let other = "192.0.2.2".parse().unwrap();
    assert_eq!(unknown[2].count_for(other, &bounds), Ok(()));
    let direct = enter(&places, "192.0.2.2", &bounds).unwrap();
    assert!(is_gone(&unknown[2]), "the older one of its network");
    assert_eq!(unknown[0].count_for(other, &bounds), Ok(()));
    assert!(!is_gone(&direct), "one that was closed takes no place");
    drop((unknown, direct));
    let table = places.table();
    assert!(table.by_number.is_empty() && table.by_network.is_empty());
    assert!(table.evictable.is_empty());
}

/// A connection that is closed to make room is notified, also when it waits only later.
#[tokio::test]
async fn an_evicted_connection_is_notified() {
    let places = Places::default();
    let bounds = bounds(1, 1);
    let first = enter(&places, "192.0.2.1", &bounds).unwrap();
    let _second = enter(&places, "192.0.2.2", &bounds).unwrap();
    first.is_taken().await;
}
