use super::{Script, script};
use proptest::prelude::*;

fn read(sql: &str) -> std::sync::Arc<Script> {
    script(sql.as_bytes(), true, true)
}

fn text(sql: &str) -> String {
    read(sql)
        .statement(0)
        .and_then(|statement| statement.text())
        .unwrap_or_default()
        .into()
}

fn summary(sql: &str) -> String {
    read(sql)
        .statement(0)
        .and_then(|statement| statement.summary())
        .unwrap_or_default()
        .into()
}

fn collection(sql: &str) -> Option<String> {
    read(sql).statement(0)?.collection().map(str::to_owned)
}

fn operation(sql: &str) -> Option<&'static str> {
    read(sql).statement(0)?.operation()
}

#[test]
fn literals_of_every_kind() {
    // Manual, § 4.1.2.
    for (sql, expected) in [
        ("SELECT 'a', 1", "SELECT ?, ?"),
        (
            "select 'it''s', E'it\\'s', b'10', X'1F', N'x', U&'\\0441'",
            "select ?, ?, ?, ?, ?, ?",
        ),
        ("SELECT 'foo'\n  'bar' FROM t", "SELECT ? FROM t"),
        ("SELECT E'a'\n 'b\\'c' FROM t", "SELECT ? FROM t"),
        ("SELECT $$it's$$, $a$x $$ y$a$", "SELECT ?, ?"),
        (
            "SELECT 42, 3.5, 4., .001, 5e2, 1.925e-3, 0x1F, 0o17, 0b01, 1_500",
            "SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?",
        ),
        ("SELECT a + -1, (-2), a - 3, -b", "SELECT a + ?, (?), a - ?, -b"),
        ("SELECT $1, x[$2]", "SELECT $1, x[$2]"),
        (
            "SELECT '2020-01-01'::date, interval '1 day', TRUE, x IS NOT TRUE, NULL",
            "SELECT ?::date, interval ?, ?, x IS NOT TRUE, NULL",
        ),
        (
            "SELECT \"a\"\"b\".\"c\", U&\"d\" FROM \"T 1\"",
            "SELECT \"a\"\"b\".\"c\", U&\"d\" FROM \"T 1\"",
        ),
        ("SELECT a1, t2.b3, foo$bar", "SELECT a1, t2.b3, foo$bar"),
    ] {
        assert_eq!(text(sql), expected, "{sql}");
    }
}

#[test]
fn comments_and_white_space() {
    assert_eq!(
        text("/* one /* two */ secret */ SELECT -- secret\n\t a/**/b ,\r\n c -- secret"),
        "SELECT a b , c"
    );
    // Operators end where a comment begins (`scan.l`).
    assert_eq!(text("SELECT 1+--secret\n2"), "SELECT ?+ ?");
    assert_eq!(text("SELECT 1*/*secret*/2"), "SELECT ?* ?");
}

#[test]
fn lists_are_collapsed() {
    for (sql, expected) in [
        (
            "SELECT * FROM t WHERE a IN (1, 2,3)",
            "SELECT * FROM t WHERE a IN (?)",
        ),
        (
            "SELECT * FROM t WHERE a in ('x')",
            "SELECT * FROM t WHERE a in (?)",
        ),
        (
            "SELECT * FROM t WHERE a IN ($1, $2, $10)",
            "SELECT * FROM t WHERE a IN ($1)",
        ),
        (
            "SELECT * FROM t WHERE (a,b) IN ((1,2),(3,4))",
            "SELECT * FROM t WHERE (a,b) IN ((?,?))",
        ),
        ("SELECT ARRAY[1,2,3]", "SELECT ARRAY[?]"),
        (
            "INSERT INTO t VALUES (1,'a'),(2,'b'), (3,'c') RETURNING id",
            "INSERT INTO t VALUES (?,?) RETURNING id",
        ),
        (
            "INSERT INTO t VALUES ($1, now()), ($2, now())",
            "INSERT INTO t VALUES ($1, now())",
        ),
        (
            "INSERT INTO t VALUES (1, NULL), (2, 'x')",
            "INSERT INTO t VALUES (?, ?)",
        ),
        ("SELECT f(1, 2)", "SELECT f(?, ?)"),
    ] {
        assert_eq!(text(sql), expected, "{sql}");
    }
    let long = format!("SELECT 1 WHERE a IN ({}) AND b", vec!["12345"; 10_000].join(", "));
    assert_eq!(text(&long), "SELECT ? WHERE a IN (?) AND b");
}

#[test]
fn in_doubt_it_is_cut() {
    for sql in [
        "SELECT a, 'unterminated secret",
        "SELECT a, E'x\\' secret",
        "SELECT a, $t$ secret $$ secret",
        "SELECT a, $secret",
        "SELECT a, /* secret",
        "SELECT a, \"secret",
        "SELECT a, {secret}",
        "SELECT a, \\secret",
        "SELECT a, 1secret",
        "SELECT a, $1secret",
    ] {
        assert_eq!(text(sql), "SELECT a, ?", "{sql}");
        assert_eq!(read(sql).count, None, "{sql}");
    }
}

#[test]
fn a_backslash_before_a_quote_depends_on_a_setting() {
    let sql = b"SELECT '\\' secret', b, 'c' FROM t";
    let unknown = script(sql, true, false);
    assert_eq!(unknown.statement(0).unwrap().text(), Some("SELECT ?"));
    let sql = b"SELECT a FROM t WHERE b LIKE '5\\%' ESCAPE '\\'";
    let known = script(sql, true, true);
    assert_eq!(
        known.statement(0).unwrap().text(),
        Some("SELECT a FROM t WHERE b LIKE ? ESCAPE ?")
    );
}

#[test]
fn what_is_no_command_is_not_shown() {
    for sql in ["hunter2", "secret SELECT 1", "'x' y", "{x}", "123 a"] {
        assert_eq!((text(sql).as_str(), operation(sql)), ("", None), "{sql}");
    }
    assert_eq!(text("SET app.token TO hunter2"), "SET app.token TO ?");
    assert_eq!(text("set search_path = a, b"), "set search_path = ?");
    let name = "x".repeat(100);
    assert_eq!(text(&format!("SELECT {name}")), "SELECT ?");
}

#[test]
fn operations() {
    for (sql, expected) in [
        ("select 1", "SELECT"),
        ("  (SELECT 1) UNION (SELECT 2)", "SELECT"),
        (
            "WITH a AS (DELETE FROM t RETURNING *) INSERT INTO u SELECT * FROM a",
            "INSERT",
        ),
        (
            "WITH RECURSIVE a(n) AS (VALUES (1) UNION ALL SELECT n+1 FROM a), b AS MATERIALIZED (SELECT 1) SELECT * FROM a",
            "SELECT",
        ),
        ("WITH a AS (SELECT 1) TABLE a", "TABLE"),
        ("WITH a AS (SELECT 'x", "WITH"),
        ("START TRANSACTION", "START"),
        // As their command tags are (manual, part VI: END, ABORT, ANALYZE).
        ("end", "COMMIT"),
        ("ABORT WORK", "ROLLBACK"),
        ("analyse t", "ANALYZE"),
        ("EXPLAIN ANALYZE SELECT 1", "EXPLAIN"),
    ] {
        assert_eq!(operation(sql), Some(expected), "{sql}");
    }
}

#[test]
fn summaries() {
    // The first four are the conventions' own examples.
    for (sql, expected, table) in [
        (
            "SELECT *\nFROM   wuser_table\nWHERE  username = 'x'",
            "SELECT wuser_table",
            Some("wuser_table"),
        ),
        (
            "INSERT INTO shipping_details\n (order_id, address) SELECT order_id, address FROM orders WHERE order_id = 1",
            "INSERT shipping_details SELECT orders",
            Some("shipping_details"),
        ),
        (
            "SELECT * FROM songs, artists WHERE songs.artist_id = artists.id",
            "SELECT songs artists",
            None,
        ),
        (
            "SELECT order_date FROM (SELECT * FROM orders o JOIN customers c ON o.customer_id = c.customer_id)",
            "SELECT SELECT orders customers",
            None,
        ),
        (
            "SELECT * FROM \"song list\" a, public.artists",
            "SELECT \"song list\" public.artists",
            None,
        ),
        (
            "SELECT EXTRACT(year FROM d) FROM t WHERE a IS DISTINCT FROM b",
            "SELECT t",
            Some("t"),
        ),
        ("SELECT * FROM generate_series(1, 2) g, t", "SELECT t", Some("t")),
        (
            "SELECT * FROM a LEFT JOIN b USING (id), c ORDER BY x, y FOR UPDATE OF a",
            "SELECT a b c",
            None,
        ),
        ("SELECT * FROM t a JOIN t b ON a.x = b.y", "SELECT t t", Some("t")),
        (
            "UPDATE ONLY t SET a = 1, b = 2 FROM u WHERE t.id = u.id",
            "UPDATE t u",
            Some("t"),
        ),
        ("DELETE FROM t USING u WHERE t.id = u.id", "DELETE t u", Some("t")),
        (
            "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2",
            "INSERT t",
            Some("t"),
        ),
        (
            "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE",
            "MERGE t s",
            Some("t"),
        ),
        (
            "WITH x AS (SELECT * FROM a) UPDATE b SET c = 1 FROM x",
            "SELECT a UPDATE b",
            Some("b"),
        ),
        (
            "WITH x AS (SELECT * FROM a) SELECT * FROM x",
            "SELECT a SELECT",
            Some("a"),
        ),
        (
            "COPY s.t (a, b) FROM STDIN WITH (FORMAT csv)",
            "COPY s.t",
            Some("s.t"),
        ),
        ("COPY (SELECT * FROM t) TO STDOUT", "COPY SELECT t", Some("t")),
        (
            "CREATE TEMP TABLE IF NOT EXISTS t (a int REFERENCES b ON DELETE CASCADE)",
            "CREATE TABLE t",
            Some("t"),
        ),
        ("CREATE INDEX ON t (a)", "CREATE", None),
        ("DROP TABLE IF EXISTS a, b CASCADE", "DROP TABLE a b", Some("a")),
        ("TRUNCATE TABLE a", "TRUNCATE a", Some("a")),
        ("CALL s.p(1)", "CALL s.p", None),
        ("GRANT SELECT ON t TO u", "GRANT", None),
        ("EXPLAIN (ANALYZE) DELETE FROM t", "EXPLAIN DELETE t", None),
        ("SELECT a FROM t UNION SELECT b FROM u", "SELECT t SELECT u", None),
        (
            "SELECT a FROM public /* secret */ . t",
            "SELECT public.t",
            Some("public.t"),
        ),
        ("BEGIN", "BEGIN", None),
    ] {
        assert_eq!(summary(sql), expected, "{sql}");
        if !sql.starts_with("EXPLAIN") {
            assert_eq!(collection(sql).as_deref(), table, "{sql}");
        }
    }
    let tables: Vec<String> = (0..100).map(|i| format!("table{i}")).collect();
    let long = summary(&format!("SELECT * FROM {}", tables.join(",")));
    assert!(
        long.len() <= 255 && long.ends_with(|c: char| c.is_ascii_digit()),
        "{long}"
    );
    assert_eq!(
        read("SELECT * FROM t").statement(0).unwrap().prepare_summary(),
        Some("PREPARE SELECT t")
    );
}

#[test]
fn strings_of_several_statements() {
    let script = read("BEGIN; INSERT INTO a VALUES (';'); ; SELECT 1; -- end");
    let texts: Vec<_> = (0..9)
        .map_while(|i| script.statement(i))
        .map(|statement| statement.text().unwrap())
        .collect();
    assert_eq!(texts, ["BEGIN", "INSERT INTO a VALUES (?)", "SELECT ?"]);
    assert_eq!(script.count, Some(3));
    assert_eq!(read("").count, Some(0));
    assert_eq!(read(" ; -- x\n ;").count, Some(0));
    let routine = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END; SELECT 2";
    assert_eq!(read(routine).count, Some(2));
    assert_eq!(
        read("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); COMMIT").count,
        Some(2)
    );
    let many = "SELECT 1;".repeat(1000);
    assert_eq!(read(&many).count, Some(1000));
    assert!(read(&many).statement(999).is_none());
}

#[test]
fn deallocation() {
    let of = |sql| {
        read(sql)
            .statement(0)
            .unwrap()
            .deallocates()
            .map(|name| name.map(str::to_owned))
    };
    assert_eq!(of("SELECT 1"), None);
    assert_eq!(of("DEALLOCATE ALL"), Some(None));
    assert_eq!(of("DEALLOCATE PREPARE Foo"), Some(Some("foo".into())));
    assert_eq!(of("deallocate \"_Pg3_\"\"1\""), Some(Some("_Pg3_\"1".into())));
}

#[test]
fn the_text_is_bounded() {
    let columns: Vec<String> = (0..2000).map(|i| format!("column_{i}")).collect();
    let text = text(&format!("SELECT {}", columns.join(", ")));
    assert!(
        text.len() <= super::TEXT && text.len() > super::TEXT - 50,
        "{}",
        text.len()
    );
}

#[test]
fn what_is_not_utf_8() {
    let script = script(b"SELECT \"\xe9\" FROM t WHERE a = '\xe9secret'", true, true);
    assert_eq!(
        script.statement(0).unwrap().text(),
        Some("SELECT \"\u{fffd}\" FROM t WHERE a = ?")
    );
}

/// A literal or a comment that holds `zzz`.
fn literal() -> impl Strategy<Value = String> {
    let inside = "[ a-y0-9'\"\\\\$;,()/*\n-]{0,6}";
    (0..8_u8, inside, inside).prop_map(|(kind, a, b)| {
        let raw = format!("{a}zzz{b}");
        match kind {
            0 => format!("'{}'", raw.replace('\'', "''")),
            1 => format!("E'{}'", raw.replace('\\', "\\\\").replace('\'', "\\'")),
            2 => format!("$q${}$q$", raw.replace('$', "")),
            3 => format!("$${}$$", raw.replace('$', "")),
            4 => format!("e'{}'\n'zzz\\''", raw.replace('\\', "\\\\").replace('\'', "''")),
            5 => format!(
                "/* {} /* zzz */ */ 5",
                raw.replace("*/", "").replace("/*", "").replace(['*', '/'], "")
            ),
            6 => format!("-- {}\n7", raw.replace(['\n', '\r'], " ")),
            _ => format!("N'{}'", raw.replace('\'', "''")),
        }
    })
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        literal(),
        prop::sample::select(vec![
            "SELECT",
            "FROM",
            "INSERT INTO",
            "VALUES",
            "IN",
            "WITH",
            "AS",
            "UPDATE",
            "SET",
            "JOIN",
            "a",
            "t1",
            "\"q\"",
            "(",
            ")",
            "[",
            "]",
            ",",
            ";",
            ".",
            "=",
            "-",
            "::",
            "$1",
            "*",
            "ARRAY",
            "TRUE",
            "NULL",
        ])
        .prop_map(str::to_owned),
        "[0-9]{1,3}(\\.[0-9]{0,2})?(e[0-9])?",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// No literal gets out, also of a string that was cut off anywhere.
    #[test]
    fn no_literal_gets_out(
        pieces in prop::collection::vec(piece(), 0..30),
        cut in any::<prop::sample::Index>(),
        whole: bool,
        plain_backslash: bool,
    ) {
        let sql = format!("SELECT {}", pieces.join(" "));
        let end = if whole { sql.len() } else { cut.index(sql.len() + 1) };
        let script = script(&sql.as_bytes()[..end], whole, plain_backslash);
        let shown = format!("{script:?}");
        prop_assert!(!shown.contains('z'), "{sql}\n{shown}");
        for digit in '2'..='9' {
            let texts: String = (0..64).filter_map(|i| script.statement(i)?.text()).collect();
            prop_assert!(!texts.contains(digit), "{sql}\n{texts}");
        }
    }

    /// Any bytes at all.
    #[test]
    fn nothing_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..300), whole: bool, mode: bool) {
        script(&bytes, whole, mode);
    }
}
