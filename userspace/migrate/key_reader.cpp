// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/key_reader.h"

#include <algorithm>
#include <cmath>

#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
constexpr uint64_t kWatch = 3 * kSecondNs, kRenew = kSecondNs / 2;
// Samples a second. The ring holds some 2,500, and is emptied every kTakeMs.
constexpr double kWanted = 20'000;

dp_key_sampled since(const dp_key_sampled &now, const dp_key_sampled &before) {
  return {now.keys - before.keys, now.told - before.told, now.dropped - before.dropped};
}

} // namespace

KeyReader::KeyReader(Attached attached, const memcached::Access &access)
    : pins_(std::move(attached.pins)), mirror_(mirror_id(pins_)), misses_(access) {
  name_mappings(attached.meta);
}

KeyReader::~KeyReader() {
  if (samples_)
    (void)write_key_watch(watch_, {});
}

Result<std::unique_ptr<KeyReader>> KeyReader::open(const memcached::Access &access) {
  std::unique_ptr<KeyReader> reader(new KeyReader(TRY(find_attached("top")), access));
  TRY(reader->start());
  return reader;
}

Status KeyReader::start() {
  watch_ = TRY(open_table(pins_, "key_watch", sizeof(dp_key_watch)));
  sampled_ = TRY(open_table(pins_, "key_sampled", sizeof(dp_key_sampled)));
  samples_ = TRY(KeyNotes::open_samples(pins_, [this](const dp_key_note &sample) {
    if (began_ns_) // else a top before this one has left it in the ring
      heat_.take(sample);
  }));
  TRY(samples_->take_all());
  before_ = TRY(read_key_sampled(sampled_));
  began_ns_ = monotonic_ns();
  return watch(began_ns_);
}

Status KeyReader::watch(uint64_t now) {
  dp_key_watch value{};
  value.until_ns = now + kWatch;
  value.every = every_;
  renewed_ns_ = now;
  return write_key_watch(watch_, value);
}

Status KeyReader::take() {
  if (const uint64_t now = monotonic_ns(); now - renewed_ns_ >= kRenew)
    TRY(watch(now));
  return samples_->take_all();
}

// What is told is no more than can be taken.
void KeyReader::choose_share(const dp_key_sampled &within, double interval_s) {
  const double wanted = std::ceil(static_cast<double>(within.keys) / interval_s / kWanted);
  every_ = static_cast<uint32_t>(std::clamp(wanted, 1.0, 1e6));
}

Result<KeyModel> KeyReader::finish() {
  if (mirror_id(pins_) != mirror_)
    return Error{"doppel top", "the mirror whose keys are shown is gone", ""};
  TRY(samples_->take_all());
  const dp_key_sampled sum = TRY(read_key_sampled(sampled_));
  const uint64_t now = monotonic_ns();
  const double interval_s = static_cast<double>(now - began_ns_) / kSecondNs;
  KeyModel model = heat_.end(interval_s, since(sum, before_));
  misses_.look(model);
  // Capture sees a write before the server does.
  TRY(samples_->take_all());
  heat_.doubt_misses(model);
  model.reckon();
  name_mappings(TRY(read_meta(pins_)));
  model.mapping = mappings_;
  choose_share(model.sampled, interval_s);
  before_ = sum;
  began_ns_ = now;
  TRY(watch(now));
  return model;
}

void KeyReader::name_mappings(const Meta &meta) {
  mappings_.clear();
  for (const NamedMapping &m : meta.mappings)
    mappings_[static_cast<uint16_t>(m.row)] = m.name;
}

} // namespace doppel::migrate
