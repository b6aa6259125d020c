//! How fast API keys are introspected that are not remembered, by how many there are.
//!
//! Two servers have each a database of its own: one with the keys alone that will be asked for, one with a million more. Each
//! key is asked for once, one after the other. The servers have never seen it; the operating system may have the file's pages,
//! or PostgreSQL's, in its memory.

use tokio::runtime::Runtime;

use crate::{
    database::Engine,
    introspection::{SINGLE, active, requests},
    load::Load,
    report::{Contender, ROUNDS, Table, measure},
    server::Server,
};

const KEYS: usize = 1_000_000;
/// Keys of one turn.
const ASKED: usize = 1_000;
/// Keys whose statements are counted.
const COUNTED: usize = 101;

/// P10.
pub(crate) fn unremembered(engine: Engine, client: &Runtime, table: &mut Table) {
    let (few, many) = (engine.start(), engine.start());
    many.many_api_keys(KEYS);
    let measured = measure(vec![
        Contender::new("few", turn(&few, client)),
        Contender::new("many", turn(&many, client)),
    ]);
    let name = engine.name();
    for (what, contender) in [("few keys", "few"), ("1 million keys", "many")] {
        table.figure(
            &format!("P10 {name}, {what}: key never seen"),
            measured.per_second(contender),
            "calls/s",
        );
    }
    table.at_most(
        &format!("P10 {name}: time with 1 million keys / with few"),
        measured.ratio("few", "many"),
        1.5,
        "",
    );
    let statements = statements(&many, client);
    table.at_most(
        &format!("P10 {name}: statements for a key never seen"),
        statements,
        1.0,
        "",
    );
}

/// Asks for other keys each time.
fn turn(server: &Server, client: &Runtime) -> impl FnMut() -> f64 {
    let load = Load::new(client, server.address, SINGLE, &server.caller, 1);
    let keys = requests(&server.known_api_keys(ROUNDS * ASKED));
    let mut turns = (0..ROUNDS).map(move |round| keys[round * ASKED..][..ASKED].into());
    move || load.each_once(&turns.next().unwrap())
}

/// How many statements a key takes: the median, since the server has others to send as well.
fn statements(server: &Server, client: &Runtime) -> f64 {
    let load = Load::new(client, server.address, SINGLE, &server.caller, 1);
    let db = &server.authority.db;
    let count = |message| {
        let before = db.query_count();
        active(load.once(message));
        db.query_count() - before
    };
    let keys = requests(&server.known_api_keys(COUNTED));
    let mut counts: Vec<u64> = keys.iter().map(count).collect();
    counts.sort_unstable();
    f64::from(u32::try_from(counts[COUNTED / 2]).unwrap())
}
