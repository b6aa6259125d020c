use std::sync::mpsc;

use super::*;

fn hashing(concurrent: usize, queue: usize) -> Hashing {
    let settings = HashingSettings {
        concurrent,
        queue,
        ..HashingSettings::default()
    };
    Hashing::new(&settings).unwrap()
}

fn password(text: &str) -> Password {
    Password::presented(text.to_owned(), "password").unwrap()
}

fn enter(hashing: &Hashing) -> Place {
    hashing.enter().unwrap()
}

const NO: Verdict = Verdict {
    matches: false,
    needs_rehash: false,
};

#[tokio::test]
async fn every_attempt_makes_exactly_one_hash() {
    let hashing = hashing(1, 1);
    let stored = hashing.hash(&password("right")).await.unwrap();
    assert!(
        stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{stored}"
    );
    let right = hashing
        .verify(enter(&hashing), &password("right"), Some(&stored))
        .await;
    assert!(right.unwrap().matches);
    assert_eq!(hashing.count(), 2);
    let expensive = stored.replace("m=19456", "m=4194304");
    let foreign = stored.replace("argon2id", "argon2i");
    let attempts = [
        ("wrong", Some(stored.as_str())),
        ("", Some(&stored)),
        ("right", None),
        ("right", Some("")),
        ("right", Some("$2b$12$abcdefghijklmnopqrstuv")),
        ("right", Some(&expensive)),
        ("right", Some(&foreign)),
    ];
    for (index, (text, stored)) in attempts.into_iter().enumerate() {
        let verdict = hashing
            .verify(enter(&hashing), &password(text), stored)
            .await
            .unwrap();
        assert_eq!(verdict, NO, "{text} {stored:?}");
        assert_eq!(hashing.count(), index as u64 + 3);
    }
}

#[tokio::test]
async fn however_many_hashes_are_made_memory_is_kept_for_those_at_a_time() {
    let hashing = hashing(1, 1);
    let mut stored = String::new();
    for _ in 0..3 {
        stored = hashing.hash(&password("right")).await.unwrap();
    }
    let verdict = hashing
        .verify(enter(&hashing), &password("right"), Some(&stored))
        .await;
    assert!(verdict.unwrap().matches);
    let kept = hashing.spare.lock().unwrap();
    let blocks: Vec<usize> = kept.iter().map(Vec::len).collect();
    assert_eq!(blocks, [hashing.params.block_count()]);
}

#[tokio::test]
async fn l17_a_weaker_hash_is_to_be_renewed_and_a_stronger_one_kept() {
    let weak = hashing(1, 1);
    let strong = HashingSettings {
        iterations: 3,
        ..HashingSettings::default()
    };
    let strong = Hashing::new(&strong).unwrap();
    for (maker, judge, needs_rehash) in [
        (&weak, &strong, true),
        (&strong, &weak, false),
        (&weak, &weak, false),
    ] {
        let stored = maker.hash(&password("right")).await.unwrap();
        let verdict = judge
            .verify(enter(judge), &password("right"), Some(&stored))
            .await;
        let expected = Verdict {
            matches: true,
            needs_rehash,
        };
        assert_eq!(verdict.unwrap(), expected);
    }
}

#[test]
fn c04_settings_outside_floor_and_cap_are_refused() {
    let good = HashingSettings::default();
    let changes: [fn(&mut HashingSettings); 7] = [
        |settings| settings.memory_kib = 19_455,
        |settings| settings.memory_kib = 262_145,
        |settings| settings.iterations = 1,
        |settings| settings.iterations = 11,
        |settings| settings.parallelism = 0,
        |settings| settings.parallelism = 5,
        |settings| settings.concurrent = 0,
    ];
    for change in changes {
        let mut settings = good.clone();
        change(&mut settings);
        assert!(Hashing::new(&settings).is_err(), "{settings:?}");
    }
}

#[tokio::test]
async fn who_finds_the_queue_full_or_waits_too_long_is_told_when_to_return() {
    let mut hashing = hashing(1, 1);
    hashing.max_wait = Duration::from_millis(20);
    let (release, released) = mpsc::channel::<()>();
    let first = hashing.run(enter(&hashing), move || Ok(released.recv().is_err()));
    let outcome = async {
        // One place in the queue, and none for the last.
        let waited = hashing.run(enter(&hashing), || Ok(()));
        let refused = hashing.enter();
        for error in [waited.await.unwrap_err(), refused.unwrap_err()] {
            assert_eq!(error.reason(), Reason::Overloaded);
            assert_eq!(error.retry_delay(), Some(STAY_AWAY));
        }
        drop(release);
    };
    let (first, ()) = tokio::join!(first, outcome);
    assert!(first.unwrap());
    hashing.run(enter(&hashing), || Ok(())).await.unwrap();
    assert_eq!(hashing.count(), 2);
}

#[test]
fn who_would_not_get_its_turn_in_time_is_turned_away_at_the_door() {
    let mut hashing = hashing(2, 16);
    hashing.max_wait = Duration::from_secs(2);
    hashing.hash_time.note(Duration::from_millis(400));
    // Two who hash, and two rounds of two who wait: 0, 400 and 800 ms. The next would have to wait for 1200.
    let mut inside: Vec<Place> = (0..6).map(|_| enter(&hashing)).collect();
    let error = hashing.enter().unwrap_err();
    assert_eq!(error.reason(), Reason::Overloaded);
    assert_eq!(error.retry_delay(), Some(STAY_AWAY));
    inside.pop();
    inside.push(enter(&hashing));
    assert!(hashing.enter().is_err());
}

#[test]
fn who_finds_nobody_before_it_is_let_in_however_long_hashes_take() {
    let hashing = hashing(2, 16);
    hashing.hash_time.note(Duration::from_mins(1));
    let _inside = [enter(&hashing), enter(&hashing)];
    assert!(hashing.enter().is_err());
}

#[tokio::test]
async fn the_door_goes_by_how_long_hashes_take_now() {
    let hashing = hashing(1, 16);
    assert_eq!(hashing.hash_time.lately(), Duration::ZERO);
    hashing.hash(&password("right")).await.unwrap();
    assert!(hashing.hash_time.lately() > Duration::ZERO);
    for (taking, expected) in [(800, 750..=800), (80, 80..=90)] {
        for _ in 0..64 {
            hashing.hash_time.note(Duration::from_millis(taking));
        }
        let found = hashing.hash_time.lately().as_millis();
        assert!(expected.contains(&found), "{found} ms");
    }
}

#[tokio::test]
async fn a_hash_that_nobody_waits_for_keeps_its_turn_until_it_is_done() {
    let hashing = hashing(1, 0);
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (release, released) = mpsc::channel::<()>();
    let abandoned = hashing.run(enter(&hashing), move || {
        assert!(begun.send(()).is_ok());
        Ok(released.recv().is_err())
    });
    tokio::select! {
        biased;
        _ = abandoned => panic!("it waits to be released"),
        begun = has_begun => begun.unwrap(),
    }
    let error = hashing.enter().unwrap_err();
    assert_eq!(error.reason(), Reason::Overloaded);
    drop(release);
    let _done = hashing.places.acquire().await.unwrap();
}
