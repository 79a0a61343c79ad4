//! `SHA1_COLLISION`: no git object that collides with another is public, so that the hasher of all objects is shown the
//! messages that do.

use state::Code;
use state::git::sha1;

#[test]
fn messages_that_were_made_to_collide_have_no_id() {
    for message in [
        &include_bytes!("../../state/tests/vectors/fail_sha1_collision.bin")[..],
        &include_bytes!("../../state/tests/vectors/fail_sha1_shattered.bin")[..],
    ] {
        let refused = sha1(&[message]).err().map(|refusal| refusal.code);
        assert_eq!(refused, Some(Code::Sha1Collision));
        assert!(sha1(&[&message[1..]]).is_ok());
    }
    tests::earned::earn_here("SHA1_COLLISION");
}
