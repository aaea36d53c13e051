//! Rules for stores of bytes that keep lists beside them.

use super::{DataPlace, id};
use crate::storage::List;

pub(super) async fn a_list_has_what_was_written_to_it<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    assert!(store.read_list(id(1), List::Tree, 0..100).await.unwrap().is_empty());
    store.write_list(id(1), List::Tree, vec![(4, b"later".to_vec())], None).await.unwrap();
    assert_eq!(store.read_list(id(1), List::Tree, 0..6).await.unwrap(), b"\0\0\0\0la"[..]);
    let pieces = vec![(0, b"head".to_vec()), (9, b" and more".to_vec())];
    store.write_list(id(1), List::Tree, pieces, Some(13)).await.unwrap();
    assert_eq!(store.read_list(id(1), List::Tree, 0..100).await.unwrap(), b"headlater and"[..]);
    assert_eq!(store.read_list(id(1), List::Tree, 9..11).await.unwrap(), b" a"[..]);
    assert!(store.read_list(id(1), List::Tree, 13..20).await.unwrap().is_empty());
    assert!(store.read_list(id(1), List::Tree, 50..60).await.unwrap().is_empty());
}

pub(super) async fn lists_do_not_touch_each_other_and_go_with_the_bytes<P: DataPlace>() {
    let mut place = P::default();
    let store = place.data();
    for (number, list) in [(1, List::Tree), (1, List::Sha256), (2, List::Tree)] {
        let bytes = format!("{number} {list:?}").into_bytes();
        store.write_list(id(number), list, vec![(0, bytes)], None).await.unwrap();
    }
    assert_eq!(store.read_list(id(1), List::Tree, 0..9).await.unwrap(), b"1 Tree"[..]);
    assert_eq!(store.read_list(id(1), List::Sha256, 0..9).await.unwrap(), b"1 Sha256"[..]);
    store.remove(id(1)).await.unwrap();
    for list in List::ALL {
        assert!(store.read_list(id(1), list, 0..9).await.unwrap().is_empty());
    }
    assert_eq!(store.read_list(id(2), List::Tree, 0..9).await.unwrap(), b"2 Tree"[..]);
}
