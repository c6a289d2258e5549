//! Layouts in other languages: the text, and whether that language's compiler accepts it.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use deepwater::layout::Layout;
use deepwater::schema::FeedSpec;
use deepwater::text::describe::{Lang, describe};

fn trades() -> Layout {
    layout(
        r#"{"name": "ts", "type": "uint64"}, {"name": "price", "type": "decimal64.8"},
           {"name": "side", "type": "char", "desc": "B or S"}, {"type": "_3"},
           {"name": "size", "type": "float32"}, {"name": "last", "type": "bool"}"#,
        false,
    )
}

fn layout(fields: &str, packed: bool) -> Layout {
    let spec = format!(
        r#"{{"feed_name": "f", "ts_col": "ts", "packed": {packed}, "fields": [{fields}]}}"#
    );
    Layout::new(&FeedSpec::from_json(&spec).unwrap()).unwrap()
}

/// Every type, and names that are not identifiers.
fn odd(packed: bool) -> Layout {
    let fields = r#"{"name": "ts", "type": "uint64"},
        {"name": "int", "type": "char"}, {"name": "bid price", "type": "float64"},
        {"name": "bid/price", "type": "float32"}, {"name": "bid_price_2", "type": "int8"},
        {"name": "type", "type": "int16"}, {"name": "*/ \"x\\", "type": "int32"},
        {"name": "\u00e9", "type": "int64"}, {"name": "1st", "type": "uint8"},
        {"name": "_", "type": "uint16"}, {"name": "__x", "type": "uint32"},
        {"name": "class", "type": "timestamp"}, {"name": "self", "type": "bool"},
        {"name": "pad_9", "type": "bytes3"}, {"name": "uint8_t", "type": "string5"},
        {"name": "Self", "type": "decimal64.2"}, {"name": "\ud83d\ude00", "type": "char"}"#;
    layout(fields, packed)
}

#[test]
fn each_language_has_its_text() {
    let shown = |lang: Lang| describe(&trades(), "es-trades.1", lang);
    assert_eq!(
        shown(Lang::C),
        "#include <assert.h>\n#include <stddef.h>\n#include <stdint.h>\n\n\
         // A record of es-trades.1: 32 bytes, little-endian.\n\
         struct es_trades_1 {\n    \
         uint64_t ts; // us since 1970-01-01T00:00:00Z\n    \
         int64_t price; // in units of 1e-8\n    \
         char side; // Latin-1 character\n    \
         uint8_t pad_17[3]; // always zero\n    \
         float size;\n    \
         uint8_t last; // bool, 0 or 1\n    \
         uint8_t pad_25[7]; // always zero\n};\n\n\
         static_assert(sizeof(struct es_trades_1) == 32, \"record size\");\n\
         static_assert(offsetof(struct es_trades_1, ts) == 0, \"ts\");\n\
         static_assert(offsetof(struct es_trades_1, price) == 8, \"price\");\n\
         static_assert(offsetof(struct es_trades_1, side) == 16, \"side\");\n\
         static_assert(offsetof(struct es_trades_1, size) == 20, \"size\");\n\
         static_assert(offsetof(struct es_trades_1, last) == 24, \"last\");\n"
    );
    let rust = shown(Lang::Rust);
    assert!(rust.contains("#[repr(C)]\n#[derive(Clone, Copy)]\npub struct EsTrades1 {\n"));
    assert!(rust.contains("    pub price: i64, // in units of 1e-8\n"));
    assert!(rust.contains("    pub pad_17: [u8; 3], // always zero\n"));
    assert_eq!(
        shown(Lang::Numpy),
        "# A record of es-trades.1; 'ts' counts us since 1970-01-01T00:00:00Z\n\
         np.dtype({\n    'names': ['ts', 'price', 'side', 'size', 'last'],\n    \
         'formats': ['<u8', '<i8', '|S1', '<f4', '|b1'],\n    \
         'offsets': [0, 8, 16, 20, 24],\n    'itemsize': 32,\n})\n"
    );
    let arrow = shown(Lang::Arrow);
    assert!(arrow.contains("pa.field('ts', pa.timestamp('us', tz='UTC'), nullable=False),\n"));
    assert!(arrow.contains("pa.field('price', pa.decimal128(19, 8), nullable=False),\n"));
    let json: serde_json::Value = serde_json::from_str(&shown(Lang::Json)).unwrap();
    assert_eq!(json["record_size"], 32);
    assert_eq!((json["ts_col"].as_str(), json["unit"].as_str()), (Some("ts"), Some("us")));
    let side = serde_json::json!(
        {"name": "side", "type": "char", "offset": 16, "size": 1, "desc": "B or S"}
    );
    assert_eq!(json["fields"][2], side);
}

#[test]
fn language_names() {
    for name in ["json", "c", "rust", "numpy", "arrow"] {
        assert_eq!(name.parse::<Lang>().unwrap().to_string(), name);
    }
    let error = "java".parse::<Lang>().unwrap_err().to_string();
    assert_eq!(error, "no layout language \"java\"; there are json, c, rust, numpy, arrow");
}

/// Runs a compiler over `source`. Passes if the compiler is not installed.
#[track_caller]
fn compiles(source: &str, file: &str, compiler: &str, arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(file), source).unwrap();
    let run =
        |path: &Path| Command::new(compiler).args(arguments).arg(file).current_dir(path).output();
    let Ok(output) = run(folder.path()) else { return };
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && messages.is_empty(), "{source}\n{messages}");
}

#[test]
fn compilers_agree_with_every_offset() {
    for packed in [false, true] {
        // "self" becomes the keyword `Self` when its first letter is capitalized.
        for feed in ["trades", "self", "1", "int"] {
            for layout in [odd(packed), trades()] {
                let c = describe(&layout, feed, Lang::C);
                let strict = ["-std=c11", "-Wall", "-Wextra", "-pedantic", "-fsyntax-only"];
                compiles(&c, "record.c", "cc", &strict);
                let rust = describe(&layout, feed, Lang::Rust);
                let allow = "#![allow(non_snake_case)]\n";
                let library = ["--edition=2024", "--crate-type=lib", "--emit=metadata"];
                compiles(&format!("{allow}{rust}"), "record.rs", "rustc", &library);
            }
        }
    }
}
