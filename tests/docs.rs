//! What the docs say in tables is what the code says.

use fanfare::model::Close;

#[test]
fn the_table_of_close_codes_is_the_one_in_the_code() {
    let docs = include_str!("../docs/protocol.md");
    let is_row = |line: &&str| line.starts_with("| 1") || line.starts_with("| 4");
    let rows: Vec<_> = docs.lines().filter(is_row).collect();
    let expected = Close::ALL.map(|close| {
        let again = if close.retry_after_ms().is_some() { "yes" } else { "no" };
        format!("| {} | `{}` | {} | {again} |", close.code(), close.name(), close.message())
    });
    assert_eq!(rows, expected);
}
