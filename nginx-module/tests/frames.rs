//! The reader of WebSocket frames against frames that a library has made, cut anywhere.

#[allow(dead_code, unreachable_pub)]
#[path = "../src/frames.rs"]
mod frames;

use frames::Frames;
use proptest::prelude::*;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};

fn frame() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let opcode = prop_oneof![
        Just(OpCode::Data(Data::Text)),
        Just(OpCode::Data(Data::Binary)),
        Just(OpCode::Data(Data::Continue)),
        Just(OpCode::Control(Control::Ping)),
        Just(OpCode::Control(Control::Pong)),
        Just(OpCode::Control(Control::Close)),
    ];
    let length = prop_oneof![0..4_usize, 120..130_usize, Just(65_535_usize), Just(65_536_usize)];
    (opcode, length, any::<Option<[u8; 4]>>(), any::<bool>(), any::<u8>()).prop_map(
        |(opcode, length, mask, is_final, byte)| {
            let is_data = matches!(opcode, OpCode::Data(_));
            let length = if is_data { length } else { length.min(125) };
            let header = FrameHeader { is_final, opcode, mask, ..FrameHeader::default() };
            let mut bytes = Vec::new();
            Frame::from_payload(header, vec![byte; length].into()).format(&mut bytes).unwrap();
            (is_data, bytes)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn a_piece_is_use_if_there_is_some_of_a_data_frame_in_it(
        all in prop::collection::vec(frame(), 1..8),
        cuts in prop::collection::vec(1..5000_usize, 1..30),
    ) {
        let is_data: Vec<bool> = all.iter().flat_map(|(is_data, bytes)| vec![*is_data; bytes.len()]).collect();
        let bytes: Vec<u8> = all.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let (mut frames, mut at, mut cuts) = (Frames::NEW, 0, cuts.into_iter().cycle());
        while at < bytes.len() {
            let end = (at + cuts.next().unwrap()).min(bytes.len());
            prop_assert_eq!(frames.feed(&bytes[at..end]), is_data[at..end].contains(&true), "{}..{}", at, end);
            at = end;
        }
    }

    #[test]
    fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut frames = Frames::NEW;
        frames.feed(&bytes);
    }
}
