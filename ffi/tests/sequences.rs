//! Calls in any order, with any arguments.

mod driver;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_is_answered_and_writes_only_what_it_may(data in prop::collection::vec(any::<u8>(), 0..6000)) {
        let directory = tempfile::tempdir().unwrap();
        driver::drive(&data, directory.path());
    }
}
