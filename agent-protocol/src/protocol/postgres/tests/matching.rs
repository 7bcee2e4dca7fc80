use super::*;

/// Runs a session after its login, which ends at time 2; each pair is a chunk of the client and one of the server.
fn run(steps: &[(&[u8], &[u8])]) -> Seen {
    let mut wire = Wire::session();
    for (client, server) in steps {
        if !client.is_empty() {
            wire.client(client);
        }
        if !server.is_empty() {
            wire.server(server);
        }
    }
    wire.close()
}

fn lines(steps: &[(&[u8], &[u8])]) -> Vec<String> {
    let seen = run(steps);
    assert!(seen.losses.is_empty(), "{:?}", seen.losses);
    seen.lines
}

#[test]
fn a_simple_query() {
    let answer = cat!(
        columns(),
        notice(),
        row(),
        notification(),
        row(),
        status("a", "b"),
        complete("SELECT 2"),
        ready(b'I')
    );
    assert_eq!(
        lines(&[(&query("SELECT * FROM t WHERE a = 'secret'"), &answer)]),
        ["3..4 SELECT <2: SELECT * FROM t WHERE a = ?"]
    );
    assert_eq!(
        lines(&[(
            &query("INSERT INTO t VALUES (1)"),
            &cat!(complete("INSERT 0 5"), ready(b'I'))
        )]),
        ["3..4 INSERT >5: INSERT INTO t VALUES (?)"]
    );
    assert_eq!(
        lines(&[(
            &query("CREATE TABLE t AS SELECT 1"),
            &cat!(complete("SELECT 1"), ready(b'I'))
        )]),
        ["3..4 CREATE >1: CREATE TABLE t AS SELECT ?"]
    );
}

#[test]
fn its_last_byte_ends_it() {
    let mut wire = Wire::session();
    wire.client(&query("SELECT 1")[..3]);
    wire.client(&query("SELECT 1")[3..]);
    wire.server(&columns());
    let answer = complete("SELECT 0");
    wire.server(&answer[..4]);
    wire.server(&answer[4..]);
    wire.server(&ready(b'I'));
    assert_eq!(wire.close().lines, ["3..7 SELECT <0: SELECT ?"]);
}

#[test]
fn several_statements_of_a_string() {
    let sql = query("BEGIN; INSERT INTO t VALUES (1); SELECT 1; COMMIT");
    let answer = cat!(
        complete("BEGIN"),
        complete("INSERT 0 1"),
        columns(),
        row(),
        complete("SELECT 1"),
        complete("COMMIT"),
        ready(b'I')
    );
    assert_eq!(
        lines(&[(&sql, &answer)]),
        [
            "3..4 BEGIN: BEGIN",
            "3..4 INSERT >1: INSERT INTO t VALUES (?)",
            "3..4 SELECT <1: SELECT ?",
            "3..4 COMMIT: COMMIT"
        ]
    );
    // The rest after an error is not reported.
    let answer = cat!(complete("BEGIN"), failed("23505"), ready(b'E'));
    assert_eq!(
        lines(&[(&sql, &answer)]),
        [
            "3..4 BEGIN: BEGIN",
            "3..4 INSERT !23505: INSERT INTO t VALUES (?)"
        ]
    );
    // A syntax error is found before any statement is run: which one it is in is not known.
    assert_eq!(
        lines(&[(&sql, &cat!(failed("42601"), ready(b'I')))]),
        ["3..4 - !42601"]
    );
    assert_eq!(
        lines(&[(&query("SELECT 1 1"), &cat!(failed("42601"), ready(b'I')))]),
        ["3..4 SELECT !42601: SELECT ? ?"]
    );
}

#[test]
fn what_the_lexer_cannot_split_has_its_tag() {
    let sql = query("SELECT 1; SELECT {; SELECT 2");
    let answer = cat!(
        columns(),
        complete("SELECT 0"),
        complete("SET"),
        complete("SELECT 0"),
        ready(b'I')
    );
    assert_eq!(
        lines(&[(&sql, &answer)]),
        ["3..4 SELECT <0: SELECT ?", "3..4 SET", "3..4 SELECT <0"]
    );
}

#[test]
fn empty_queries_are_none() {
    let empty = cat!(simple(b'I'), ready(b'I'));
    let extended = cat!(
        parse("", ""),
        bind("", ""),
        describe(b'P', ""),
        execute("", 0),
        sync()
    );
    let answer = cat!(
        simple(b'1'),
        simple(b'2'),
        simple(b'n'),
        simple(b'I'),
        ready(b'I')
    );
    assert!(
        lines(&[
            (&query(""), &empty),
            (&query(" -- ping\n;"), &empty),
            (&extended, &answer)
        ])
        .is_empty()
    );
}

#[test]
fn function_calls_are_none() {
    let call = message(b'F', &[0; 12]);
    assert!(lines(&[(&call, &cat!(message(b'V', &[0, 0, 0, 0]), ready(b'I')))]).is_empty());
}

#[test]
fn commit_answered_by_rollback() {
    assert_eq!(
        lines(&[
            (&query("COMMIT"), &cat!(complete("ROLLBACK"), ready(b'I'))),
            (&query("ROLLBACK"), &cat!(complete("ROLLBACK"), ready(b'I'))),
        ]),
        ["3..4 COMMIT !rollback: COMMIT", "5..6 ROLLBACK: ROLLBACK"]
    );
}

#[test]
fn an_extended_query() {
    let all = cat!(
        parse("", "SELECT $1"),
        bind("", ""),
        describe(b'P', ""),
        execute("", 0),
        sync()
    );
    let answer = cat!(
        simple(b'1'),
        simple(b'2'),
        columns(),
        row(),
        complete("SELECT 1"),
        ready(b'I')
    );
    assert_eq!(lines(&[(&all, &answer)]), ["3..4 SELECT <1: SELECT $1"]);
}

#[test]
fn it_begins_with_its_bind_or_an_unnamed_parse_for_it() {
    let mut wire = Wire::session();
    wire.client(&parse("", "SELECT $1"));
    wire.client(&describe(b'S', ""));
    wire.client(&flush());
    wire.server(&cat!(simple(b'1'), parameters(), columns()));
    wire.client(&bind("", ""));
    wire.client(&execute("", 0));
    wire.client(&sync());
    wire.server(&simple(b'2'));
    wire.server(&complete("SELECT 0"));
    wire.server(&ready(b'I'));
    // The unnamed statement once more, without a Parse.
    wire.client(&bind("", ""));
    wire.client(&cat!(execute("", 0), sync()));
    wire.server(&cat!(simple(b'2'), complete("SELECT 0"), ready(b'I')));
    assert_eq!(
        wire.close().lines,
        ["3..11 SELECT <0: SELECT $1", "13..15 SELECT <0: SELECT $1"]
    );
}

#[test]
fn prepared_statements() {
    let prepare = cat!(parse("s1", "SELECT $1"), describe(b'S', "s1"), sync());
    let prepared = cat!(simple(b'1'), parameters(), columns(), ready(b'I'));
    let run = cat!(bind("", "s1"), execute("", 0), sync());
    let answer = cat!(simple(b'2'), row(), complete("SELECT 1"), ready(b'I'));
    assert_eq!(
        lines(&[
            (&prepare, &prepared),
            (&run, &answer),
            (&cat!(close(b'S', "s1"), sync()), &cat!(simple(b'3'), ready(b'I'))),
            (&run, &cat!(failed("26000"), ready(b'I'))),
        ]),
        [
            "3..4 PREPARE @s1: SELECT $1",
            "5..6 SELECT <1 @s1: SELECT $1",
            "9..10 - !26000 @s1",
        ]
    );
}

/// As pgjdbc does from the fifth time on (`prepareThreshold`), and libpq's pipelines.
#[test]
fn prepared_and_run_in_one_batch_is_one() {
    let run = |name, sql| cat!(parse(name, sql), bind("", name), execute("", 0));
    let ran = |tag: &str| cat!(simple(b'1'), simple(b'2'), complete(tag));
    let both = (
        cat!(
            parse("a", "SELECT $1"),
            parse("b", "DELETE FROM t"),
            bind("", "b"),
            execute("", 0),
            bind("", "a"),
            execute("", 0),
            bind("", "a"),
            execute("", 0),
            parse("c", "SELECT 3"),
            sync()
        ),
        cat!(
            [simple(b'1'), simple(b'1')].concat(),
            [simple(b'2'), complete("DELETE 1")].concat(),
            [simple(b'2'), complete("SELECT 0")].concat(),
            [simple(b'2'), complete("SELECT 0")].concat(),
            simple(b'1'),
            ready(b'I')
        ),
    );
    let aborted = (
        cat!(run("d", "SELECT 1/0"), run("e", "UPDATE t SET a = 1"), sync()),
        cat!(simple(b'1'), failed("22012"), ready(b'I')),
    );
    let refused = (
        cat!(run("f", "SELECT * FROM missing"), sync()),
        cat!(failed("42P01"), ready(b'I')),
    );
    assert_eq!(
        lines(&[
            (
                &cat!(run("s", "SELECT $1"), sync()),
                &cat!(ran("SELECT 0"), ready(b'I'))
            ),
            (&both.0, &both.1),
            (&aborted.0, &aborted.1),
            (&refused.0, &refused.1),
        ]),
        [
            "3..4 SELECT <0 @s: SELECT $1",
            "5..6 DELETE >1 @b: DELETE FROM t",
            "5..6 SELECT <0 @a: SELECT $1",
            "5..6 SELECT <0 @a: SELECT $1",
            "5..6 PREPARE @c: SELECT ?",
            "7..8 SELECT !22012 @d: SELECT ?/?",
            "7..8 UPDATE !pipeline_aborted @e: UPDATE t SET a = ?",
            "9..10 SELECT !42P01 @f: SELECT * FROM missing",
        ]
    );
}

/// What waits for the answer to its Parse is a transaction of its own.
#[test]
fn prepared_with_flush_is_two() {
    let mut wire = Wire::session();
    wire.client(&cat!(parse("s", "SELECT $1"), flush()));
    wire.server(&simple(b'1'));
    wire.client(&cat!(bind("", "s"), execute("", 0), sync()));
    wire.server(&cat!(simple(b'2'), complete("SELECT 0"), ready(b'I')));
    assert_eq!(
        wire.close().lines,
        ["3..4 PREPARE @s: SELECT $1", "5..6 SELECT <0 @s: SELECT $1"]
    );
    let mut wire = Wire::session();
    wire.client(&cat!(parse("s", "SELEC"), flush()));
    wire.server(&failed("42601"));
    wire.client(&cat!(bind("", "s"), execute("", 0), sync()));
    wire.server(&ready(b'I'));
    assert_eq!(wire.close().lines[0], "3..4 PREPARE !42601 @s");
}

#[test]
fn deallocated_statements_are_unknown() {
    let prepare = |name| cat!(parse(name, "SELECT $1"), sync());
    let prepared = cat!(simple(b'1'), ready(b'I'));
    let run = |name| cat!(bind("", name), execute("", 0), sync());
    let answer = cat!(simple(b'2'), complete("SELECT 0"), ready(b'I'));
    let seen = lines(&[
        (&prepare("a"), &prepared),
        (&prepare("b"), &prepared),
        (&query("DEALLOCATE a"), &cat!(complete("DEALLOCATE"), ready(b'I'))),
        (&run("a"), &answer),
        (&run("b"), &answer),
        (&query("DISCARD ALL"), &cat!(complete("DISCARD ALL"), ready(b'I'))),
        (&run("b"), &answer),
    ]);
    assert_eq!(seen[3], "9..10 SELECT <0 @a");
    assert_eq!(seen[4], "11..12 SELECT <0 @b: SELECT $1");
    assert_eq!(seen[6], "15..16 SELECT <0 @b");
}

#[test]
fn a_statement_that_cannot_be_prepared_leaves_the_old_one() {
    let answer = cat!(simple(b'2'), complete("SELECT 0"), ready(b'I'));
    assert_eq!(
        lines(&[
            (
                &cat!(parse("s", "SELECT 1"), sync()),
                &cat!(simple(b'1'), ready(b'I'))
            ),
            (
                &cat!(parse("s", "DELETE FROM t"), sync()),
                &cat!(failed("42P05"), ready(b'I'))
            ),
            (&cat!(bind("", "s"), execute("", 0), sync()), &answer),
        ]),
        [
            "3..4 PREPARE @s: SELECT ?",
            "5..6 PREPARE !42P05 @s: DELETE FROM t",
            "7..8 SELECT <0 @s: SELECT ?"
        ]
    );
}

#[test]
fn pipelined_with_one_sync() {
    let one = |sql| cat!(parse("", sql), bind("", ""), describe(b'P', ""), execute("", 0));
    let requests = cat!(
        one("INSERT INTO a VALUES ($1)"),
        one("SELECT 1"),
        one("DELETE FROM b"),
        sync()
    );
    let mut wire = Wire::session();
    wire.client(&requests);
    wire.server(&cat!(
        simple(b'1'),
        simple(b'2'),
        simple(b'n'),
        complete("INSERT 0 1")
    ));
    wire.server(&cat!(simple(b'1'), simple(b'2'), columns(), complete("SELECT 0")));
    wire.server(&cat!(
        simple(b'1'),
        simple(b'2'),
        simple(b'n'),
        complete("DELETE 3"),
        ready(b'I')
    ));
    assert_eq!(
        wire.close().lines,
        [
            "3..4 INSERT >1: INSERT INTO a VALUES ($1)",
            "3..5 SELECT <0: SELECT ?",
            "3..6 DELETE >3: DELETE FROM b"
        ]
    );
}

#[test]
fn pipelined_with_many_syncs() {
    let one = |sql| cat!(parse("", sql), bind("", ""), execute("", 0), sync());
    let answer = |tag| cat!(simple(b'1'), simple(b'2'), complete(tag), ready(b'I'));
    let mut wire = Wire::session();
    wire.client(&one("SELECT 1"));
    wire.client(&one("DELETE FROM t"));
    wire.client(&query("BEGIN"));
    wire.server(&answer("SELECT 0"));
    wire.server(&cat!(answer("DELETE 0"), complete("BEGIN"), ready(b'T')));
    assert_eq!(
        wire.close().lines,
        [
            "3..6 SELECT <0: SELECT ?",
            "4..7 DELETE >0: DELETE FROM t",
            "5..7 BEGIN: BEGIN"
        ]
    );
}

#[test]
fn an_error_skips_to_sync() {
    let one = |sql| cat!(parse("", sql), bind("", ""), describe(b'P', ""), execute("", 0));
    let requests = cat!(
        one("INSERT INTO a VALUES ($1)"),
        one("SELECT 1/0"),
        one("DELETE FROM b"),
        parse("s", "SELECT 2"),
        sync(),
        one("SELECT 3"),
        sync()
    );
    let mut wire = Wire::session();
    wire.client(&requests);
    wire.server(&cat!(
        simple(b'1'),
        simple(b'2'),
        simple(b'n'),
        complete("INSERT 0 1")
    ));
    wire.server(&cat!(simple(b'1'), simple(b'2'), columns(), failed("22012")));
    wire.server(&ready(b'I'));
    wire.server(&cat!(
        simple(b'1'),
        simple(b'2'),
        columns(),
        complete("SELECT 0"),
        ready(b'I')
    ));
    assert_eq!(
        wire.close().lines,
        [
            "3..4 INSERT >1: INSERT INTO a VALUES ($1)",
            "3..5 SELECT !22012: SELECT ?/?",
            "3..6 DELETE !pipeline_aborted: DELETE FROM b",
            "3..6 PREPARE !pipeline_aborted @s: SELECT ?",
            "3..7 SELECT <0: SELECT ?",
        ]
    );
}

#[test]
fn an_error_before_execute_is_that_of_its_statement() {
    let sql = "SELECT * FROM missing";
    let all = cat!(
        parse("", sql),
        bind("", ""),
        describe(b'P', ""),
        execute("", 0),
        execute("other", 0),
        sync()
    );
    for answer in [
        cat!(failed("42P01")),
        cat!(simple(b'1'), failed("42P01")),
        cat!(simple(b'1'), simple(b'2'), failed("42P01")),
        cat!(simple(b'1'), simple(b'2'), columns(), failed("42P01")),
    ] {
        let mut wire = Wire::session();
        wire.client(&all);
        wire.server(&answer);
        wire.server(&ready(b'I'));
        let mut lines = wire.close().lines;
        lines.sort();
        assert_eq!(
            lines,
            [
                "3..4 SELECT !42P01: SELECT * FROM missing",
                "3..5 - !pipeline_aborted"
            ]
        );
    }
    // Alone it is preparing that failed.
    let alone = cat!(parse("", sql), describe(b'S', ""), sync());
    for answer in [
        cat!(failed("42P01"), ready(b'I')),
        cat!(simple(b'1'), failed("42P01"), ready(b'I')),
    ] {
        assert_eq!(
            lines(&[(&alone, &answer)]),
            ["3..4 PREPARE !42P01: SELECT * FROM missing"]
        );
    }
    // The Execute is not even sent.
    let prepare = (cat!(parse("s", sql), sync()), cat!(simple(b'1'), ready(b'I')));
    assert_eq!(
        lines(&[
            (&prepare.0, &prepare.1),
            (&cat!(bind("", "s"), flush()), &failed("22P02")),
            (&sync(), &ready(b'I')),
        ])[1..],
        ["5..6 SELECT !22P02 @s: SELECT * FROM missing"]
    );
}

#[test]
fn a_commit_that_fails_at_sync() {
    // Deferred constraints: the statement itself had its answer.
    let all = cat!(
        parse("", "INSERT INTO t VALUES (1)"),
        bind("", ""),
        execute("", 0),
        sync()
    );
    let answer = cat!(
        simple(b'1'),
        simple(b'2'),
        complete("INSERT 0 1"),
        failed("23503"),
        ready(b'I')
    );
    let seen = run(&[
        (&all, &answer),
        (&query("BEGIN"), &cat!(complete("BEGIN"), ready(b'T'))),
    ]);
    assert_eq!(
        seen.lines,
        ["3..4 INSERT >1: INSERT INTO t VALUES (?)", "5..6 BEGIN: BEGIN"]
    );
    assert_eq!(seen.losses, BTreeMap::from([("unattributed_error", 1)]));
}

#[test]
fn a_suspended_portal_is_one() {
    let begin = (query("BEGIN"), cat!(complete("BEGIN"), ready(b'T')));
    let first = cat!(
        parse("", "SELECT 1"),
        bind("c", ""),
        describe(b'P', "c"),
        execute("c", 2),
        sync()
    );
    let answer = cat!(
        simple(b'1'),
        simple(b'2'),
        columns(),
        row(),
        row(),
        simple(b's'),
        ready(b'T')
    );
    let next = cat!(execute("c", 2), sync());
    let last = cat!(row(), complete("SELECT 1"), ready(b'T'));
    let more = cat!(row(), row(), simple(b's'), ready(b'T'));
    let other = (
        query("SELECT 2"),
        cat!(columns(), complete("SELECT 0"), ready(b'T')),
    );
    assert_eq!(
        lines(&[
            (&begin.0, &begin.1),
            (&first, &answer),
            (&next, &more),
            (&other.0, &other.1),
            (&next, &last)
        ]),
        [
            "3..4 BEGIN: BEGIN",
            "9..10 SELECT <0: SELECT ?",
            "5..12 SELECT <5: SELECT ?"
        ]
    );
    // Not run to its end: its last Execute is the end, when it is closed or its transaction ends.
    let closed = (cat!(close(b'P', "c"), sync()), cat!(simple(b'3'), ready(b'T')));
    assert_eq!(
        lines(&[
            (&begin.0, &begin.1),
            (&first, &answer),
            (&next, &more),
            (&closed.0, &closed.1)
        ])[1..],
        ["5..8 SELECT <4: SELECT ?"]
    );
    let answer = cat!(
        simple(b'1'),
        simple(b'2'),
        columns(),
        row(),
        row(),
        simple(b's'),
        ready(b'I')
    );
    assert_eq!(lines(&[(&first, &answer)]), ["3..4 SELECT <2: SELECT ?"]);
}

#[test]
fn copy_in_by_a_query() {
    let done = cat!(copy_data(b"1\tsecret\n"), copy_data(&[b'x'; 9000]), copy_done());
    assert_eq!(
        lines(&[
            (&query("COPY t FROM STDIN"), &copy_response(b'G')),
            (&done, &cat!(complete("COPY 2"), ready(b'I'))),
        ]),
        ["3..6 COPY >2: COPY t FROM STDIN"]
    );
    let fail = message(b'f', &strings(&["no more"]));
    assert_eq!(
        lines(&[
            (&query("COPY t FROM STDIN"), &copy_response(b'G')),
            (&fail, &cat!(failed("57014"), ready(b'I'))),
            (&query("BEGIN"), &cat!(complete("BEGIN"), ready(b'T'))),
        ]),
        ["3..6 COPY !57014: COPY t FROM STDIN", "7..8 BEGIN: BEGIN"]
    );
}

#[test]
fn copy_in_by_execute_swallows_syncs() {
    let all = cat!(
        parse("", "COPY t FROM STDIN"),
        bind("", ""),
        execute("", 0),
        sync()
    );
    let begin = (query("BEGIN"), cat!(complete("BEGIN"), ready(b'T')));
    let data = cat!(copy_data(b"1\n"), sync(), flush(), copy_done(), sync());
    let answer = cat!(simple(b'1'), simple(b'2'), copy_response(b'G'));
    let complete = cat!(complete("COPY 1"), ready(b'I'));
    let expected = ["3..6 COPY >1: COPY t FROM STDIN", "7..8 BEGIN: BEGIN"];
    assert_eq!(
        lines(&[(&all, &answer), (&data, &complete), (&begin.0, &begin.1)]),
        expected
    );
    // The client does not wait for CopyInResponse.
    assert_eq!(
        lines(&[
            (&cat!(all.clone(), data), &cat!(answer.clone(), complete)),
            (&begin.0, &begin.1)
        ])[1],
        "5..6 BEGIN: BEGIN"
    );
    // An error while data is sent: what comes is dropped up to the Sync behind it.
    assert_eq!(
        lines(&[
            (&all, &answer),
            (&copy_data(b"x"), &failed("22P02")),
            (&cat!(copy_data(b"y"), copy_done(), sync()), &ready(b'I')),
            (&begin.0, &begin.1),
        ]),
        ["3..6 COPY !22P02: COPY t FROM STDIN", "9..10 BEGIN: BEGIN"]
    );
}

#[test]
fn copy_out() {
    let answer = cat!(
        copy_response(b'H'),
        copy_data(b"secret"),
        copy_data(&[0; 70_000]),
        simple(b'c'),
        complete("COPY 2"),
        ready(b'I')
    );
    assert_eq!(
        lines(&[(&query("COPY t TO STDOUT"), &answer)]),
        ["3..4 COPY >2: COPY t TO STDOUT"]
    );
}

#[test]
fn cut_off() {
    let all = cat!(parse("", "SELECT 1"), bind("", ""), execute("", 0), sync());
    assert_eq!(
        lines(&[(&all, &cat!(simple(b'1'), simple(b'2'), row()))]),
        ["3..5 SELECT !connection_closed: SELECT ?"]
    );
    // The server is shut down.
    assert_eq!(
        lines(&[(
            &cat!(query("SELECT 1; SELECT 2"), query("BEGIN")),
            &cat!(columns(), complete("SELECT 0"), failed("57P01"))
        )]),
        [
            "3..4 SELECT <0: SELECT ?",
            "3..4 SELECT !57P01: SELECT ?",
            "3..5 BEGIN !connection_closed: BEGIN"
        ]
    );
    let seen = run(&[(b"", &failed("57P01"))]);
    assert_eq!(
        (seen.lines.len(), seen.losses),
        (0, BTreeMap::from([("unattributed_error", 1)]))
    );
}

#[test]
fn an_error_older_than_the_request_is_not_its_own() {
    let mut wire = Wire::session();
    wire.time = 10;
    wire.client(&query("BEGIN"));
    wire.time = 5;
    wire.server(&failed("57P01"));
    wire.time = 20;
    let seen = wire.close();
    assert_eq!(seen.lines, ["11..21 BEGIN !connection_closed: BEGIN"]);
    assert_eq!(seen.losses, BTreeMap::from([("unattributed_error", 1)]));
}

#[test]
fn what_is_open_at_the_end_is_counted() {
    let mut wire = Wire::session();
    wire.client(&cat!(
        parse("", "SELECT 1"),
        bind("", ""),
        execute("", 0),
        sync(),
        query("BEGIN")
    ));
    let seen = wire.finish();
    assert!(seen.lines.is_empty());
    assert_eq!(seen.losses, BTreeMap::from([("unfinished", 2)]));
}

#[test]
fn a_long_query_is_read_in_part() {
    let sql = format!(
        "INSERT INTO t VALUES {}",
        vec!["(1, 'secret')"; 20_000].join(", ")
    );
    let mut wire = Wire::session();
    let bytes = query(&sql);
    for chunk in bytes.chunks(10_000) {
        wire.client(chunk);
    }
    wire.server(&cat!(complete("INSERT 0 20000"), ready(b'I')));
    let seen = wire.close();
    assert_eq!(seen.lines.len(), 1);
    assert!(
        seen.lines[0].contains("INSERT >20000: INSERT INTO t VALUES (?, ?)"),
        "{}",
        seen.lines[0]
    );
    assert!(seen.losses.is_empty());
}

#[test]
fn parameters_are_not_buffered() {
    let mut body = strings(&["", "s"]);
    body.extend([0, 0, 0, 1]);
    body.extend(1_000_000_u32.to_be_bytes());
    body.extend(vec![b'x'; 1_000_000]);
    body.extend([0, 0]);
    let mut wire = Wire::session();
    wire.client(&cat!(parse("s", "INSERT INTO t VALUES ($1)"), sync()));
    wire.server(&cat!(simple(b'1'), ready(b'I')));
    for chunk in message(b'B', &body).chunks(1400) {
        wire.client(chunk);
    }
    wire.client(&cat!(execute("", 0), sync()));
    wire.server(&cat!(simple(b'2'), complete("INSERT 0 1"), ready(b'I')));
    let seen = wire.close();
    assert_eq!(seen.lines[1], "5..721 INSERT >1 @s: INSERT INTO t VALUES ($1)");
    assert!(seen.losses.is_empty());
}

#[test]
fn garbage_is_refused() {
    let mut wire = Wire::session();
    wire.client(b"\xff\xff\xff\xff\xff\xff");
    wire.server(&ready(b'I'));
    let seen = wire.close();
    assert!(seen.lines.is_empty());
    assert_eq!(seen.losses.get("refused"), Some(&1));
}
