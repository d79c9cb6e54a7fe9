//! What an ingester acknowledges, on its way to a querier: in order, until the connection breaks.

use std::sync::Arc;

use rpc::{TailError, TailReceiver, TailSender};

use super::Net;
use crate::life::Life;

/// As `rpc::remote` has it.
const BATCHES_MAX: usize = 64;
const BYTES_MAX: usize = 32 << 20;

/// The tail of the ingester at an address.
pub(super) fn follow(net: &Arc<Net>, from: &Arc<Life>, to: &Arc<str>) -> TailReceiver {
    let tail = TailSender::waiting(BATCHES_MAX, BYTES_MAX);
    let receiver = tail.subscribe();
    let (net, from, to) = (Arc::clone(net), Arc::clone(from), Arc::clone(to));
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = tail.unwatched() => {}
            () = carry(&net, &from, &to, &tail) => {}
            () = from.over() => {}
        }
    });
    receiver
}

/// Ends with the connection.
async fn carry(net: &Net, from: &Arc<Life>, to: &Arc<str>, tail: &TailSender) {
    let fate = net.fate();
    from.pause(fate.there).await;
    let passes = net.passes(&from.address, to) && net.passes(to, &from.address);
    let Ok(door) = net.door(to) else {
        return;
    };
    let Some(ingester) = door.ingester.filter(|_| passes && !fate.lost_there) else {
        return;
    };
    let life = door.life;
    let mut batches = rpc::SearchApi::tail(&ingester);
    from.pause(fate.back).await;
    tail.begin();
    net.trace.tell(format_args!("{}>{to} tail", from.address));
    loop {
        let next = life.live(batches.recv()).await;
        let fate = net.fate();
        from.pause(fate.back).await;
        // A message that is lost is sent again; where nothing passes the connection breaks.
        if !net.passes(to, &from.address) || life.is_over() {
            net.trace
                .tell(format_args!("{}>{to} tail breaks", from.address));
            return;
        }
        match next {
            Some(Ok(held)) => tail.send(held),
            Some(Err(TailError::Missed(batches))) => tail.missed(batches),
            Some(Err(TailError::Ended)) | None => return,
        }
    }
}
