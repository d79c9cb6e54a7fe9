use std::io::Write;

use super::*;

const TEXT: &[u8] = b"line one, line one, line one, line two";

fn compress(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    match encoding {
        Encoding::Identity => bytes.to_vec(),
        Encoding::Snappy => snap::raw::Encoder::new().compress_vec(bytes).unwrap(),
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Deflate => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Zstd => zstd::encode_all(bytes, 3).unwrap(),
        Encoding::SnappyFramed => {
            let mut encoder = snap::write::FrameEncoder::new(Vec::new());
            encoder.write_all(bytes).unwrap();
            encoder.into_inner().unwrap()
        }
        Encoding::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

const ALL: [Encoding; 7] = [
    Encoding::Identity,
    Encoding::Snappy,
    Encoding::Gzip,
    Encoding::Deflate,
    Encoding::Zstd,
    Encoding::SnappyFramed,
    Encoding::Lz4,
];

#[test]
fn every_encoding_gives_back_the_text_and_reuses_the_buffer() {
    let mut buffer = vec![7; 5];
    for encoding in ALL {
        let body = compress(encoding, TEXT);
        let bytes = decompress(encoding, &body, TEXT.len(), &mut buffer).unwrap();
        assert_eq!(bytes, TEXT, "{encoding:?}");
        assert_eq!(Encoding::parse(encoding.as_str()), Some(encoding));
    }
}

#[test]
fn deflate_may_come_without_its_zlib_header() {
    let mut encoder =
        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(TEXT).unwrap();
    let body = encoder.finish().unwrap();
    let mut buffer = Vec::new();
    let bytes = decompress(Encoding::Deflate, &body, 1000, &mut buffer).unwrap();
    assert_eq!(bytes, TEXT);
}

#[test]
fn snappy_may_come_framed_under_its_short_name() {
    let body = compress(Encoding::SnappyFramed, TEXT);
    let mut buffer = Vec::new();
    let bytes = decompress(Encoding::Snappy, &body, 1000, &mut buffer).unwrap();
    assert_eq!(bytes, TEXT);
    assert_eq!(Encoding::parse("zlib"), Some(Encoding::Deflate));
}

#[test]
fn all_frames_of_a_body_count() {
    for encoding in [
        Encoding::Gzip,
        Encoding::Zstd,
        Encoding::SnappyFramed,
        Encoding::Lz4,
    ] {
        let body = compress(encoding, TEXT).repeat(3);
        let mut buffer = Vec::new();
        let bytes = decompress(encoding, &body, 1000, &mut buffer).unwrap();
        assert_eq!(bytes, TEXT.repeat(3), "{encoding:?}");
    }
}

#[test]
fn a_body_that_is_cut_short_is_damaged() {
    for encoding in &ALL[1..] {
        let body = compress(*encoding, &TEXT.repeat(50));
        let mut buffer = Vec::new();
        let cut = &body[..body.len() - 6];
        let read = decompress(*encoding, cut, 1 << 20, &mut buffer);
        assert!(read.is_err(), "{encoding:?}");
    }
}

#[test]
fn lz4_is_damaged_wherever_it_is_cut() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    // A text of several blocks, the first of which do not compress.
    let text: Vec<u8> = (0..200_000u32)
        .map(|n| (n.wrapping_mul(0x9E37_79B9) >> 24) as u8)
        .chain([7; 100_000])
        .collect();
    for (mode, checksums, size) in [
        (BlockMode::Independent, false, None),
        (BlockMode::Linked, true, Some(text.len() as u64)),
    ] {
        let info = FrameInfo::new()
            .block_size(BlockSize::Max64KB)
            .block_mode(mode)
            .block_checksums(checksums)
            .content_checksum(checksums)
            .content_size(size);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&text).unwrap();
        let body = encoder.finish().unwrap();
        let mut buffer = Vec::new();
        let mut read = |body: &[u8]| {
            let text = decompress(Encoding::Lz4, body, 1 << 20, &mut buffer)?;
            Ok::<_, Error>(text.to_vec())
        };
        assert_eq!(read(&body).unwrap(), text);
        assert_eq!(read(&body.repeat(2)).unwrap(), text.repeat(2));
        for end in 1..body.len() {
            assert!(read(&body[..end]).is_err(), "{end} of {}", body.len());
        }
        let second = [&body[..], &body[..body.len() / 2]].concat();
        assert!(read(&second).is_err());
    }
}

#[test]
fn one_byte_beyond_the_limit_is_too_large() {
    for encoding in ALL {
        let body = compress(encoding, TEXT);
        let limit = TEXT.len() - 1;
        let mut buffer = Vec::new();
        let error = decompress(encoding, &body, limit, &mut buffer).unwrap_err();
        assert_eq!(error, Error::TooLarge { limit }, "{encoding:?}");
    }
}

#[test]
fn a_bomb_never_fills_the_memory() {
    let zeros = vec![0; 50_000_000];
    for encoding in [
        Encoding::Gzip,
        Encoding::Deflate,
        Encoding::Zstd,
        Encoding::SnappyFramed,
        Encoding::Lz4,
    ] {
        let body = compress(encoding, &zeros);
        let mut buffer = Vec::new();
        assert!(decompress(encoding, &body, 1_000_000, &mut buffer).is_err());
        assert!(buffer.capacity() <= 4_000_000, "{encoding:?}");
    }
    let mut buffer = Vec::new();
    // Snappy: only the length, 2^31 - 1, and nothing after it.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x07, 0, 0];
    assert!(decompress(Encoding::Snappy, &claim, usize::MAX, &mut buffer).is_err());
    assert_eq!(buffer.capacity(), 0);
}

#[test]
fn damaged_bodies_name_their_encoding() {
    for encoding in &ALL[1..] {
        let mut buffer = Vec::new();
        let error = decompress(*encoding, &[0xff, 0x13, 0x37], 1 << 20, &mut buffer).unwrap_err();
        assert!(error.to_string().contains(encoding.as_str()), "{error}");
    }
    assert_eq!(Encoding::parse("br"), None);
}
