// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/warm_context.h"

#include <chrono>
#include <thread>

#include "userspace/util/text.h"

namespace doppel::migrate {

uint64_t note_evictions(const WarmContext &c, const memcached::Stats &target) {
  c.report.evicted =
      std::max(c.report.evicted, memcached::evictions_since(target, c.target_evictions));
  return c.report.evicted;
}

void note_token(const WarmContext &c) {
  if (!c.options.stale_ok && c.report.stopped.empty())
    c.report.stopped = "the source has items that its clients marked as stale (md with I): a read "
                       "takes the token by which one of them would recache";
}

std::optional<ReadItem> read_source(const WarmContext &c, const memcached::Answer &answer,
                                    uint32_t opaque) {
  auto item = read_answer(answer, opaque, c.clock);
  if (!item)
    return std::nullopt;
  c.report.source_gets += item->look.there || item->claimed ? 1 : 0;
  if (item->won)
    note_token(c);
  return item;
}

void count(WarmReport &report, Outcome outcome) {
  switch (outcome) {
  case Outcome::added:
    report.added++;
    break;
  case Outcome::present:
    report.present++;
    break;
  case Outcome::gone:
    report.gone++;
    break;
  case Outcome::undone:
    report.undone++;
    break;
  case Outcome::stale:
    report.stale++;
    break;
  case Outcome::too_large:
    report.too_large++;
    break;
  case Outcome::wide_flags:
    report.wide_flags++;
    break;
  case Outcome::failed:
    report.failed++;
    break;
  case Outcome::repaired:
    report.repaired++;
    break;
  case Outcome::moving:
    report.moving++;
    break;
  case Outcome::open:
  case Outcome::absent:
  case Outcome::contested:
    break;
  }
}

Result<bool> pass(const WarmContext &c) {
  TRY(c.barrier.check());
  const uint64_t mark = TRY(c.barrier.begin());
  while (!TRY(c.barrier.is_passed(mark))) {
    if (c.stop)
      return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

Error no_answer(const memcached::Connection &c, std::string_view line) {
  return {c.server().text(), "gives an answer that fits no question: " + in_quotes(line),
          "is there a proxy that does not know meta commands?", Exit::failure};
}

} // namespace doppel::migrate
