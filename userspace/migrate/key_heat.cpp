// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/key_heat.h"

#include <arpa/inet.h>

#include <algorithm>
#include <string_view>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "userspace/memcached/meta.h"
#include "userspace/util/address.h"

namespace doppel::migrate {
namespace {
std::string key_of(const dp_key_note &sample) {
  std::string key(reinterpret_cast<const char *>(sample.key), sample.length);
  if (sample.traits & DP_KEY_BASE64)
    if (auto raw = memcached::key_of_base64(key))
      return std::move(*raw);
  return key;
}

template <typename T> void append_bytes(std::string &text, const T &value) {
  text.append(reinterpret_cast<const char *>(&value), sizeof(value));
}

std::string id_of(const dp_key_note &sample, const std::string &key) {
  std::string id;
  append_bytes(id, sample.mapping);
  append_bytes(id, sample.server);
  append_bytes(id, sample.server_port);
  return id + key;
}

void count(KeyRow &row, const dp_key_note &sample) {
  switch (sample.kind) {
  case DP_KEY_READ:
    row.reads++;
    break;
  case DP_KEY_STORE:
    row.stores++;
    row.size = sample.size;
    break;
  case DP_KEY_DELETE:
    row.deletes++;
    break;
  default: // append brings a part of a value, and incr none
    row.others++;
  }
}

void reset(KeyRow &row) { row.reads = row.stores = row.deletes = row.others = 0; }

} // namespace

std::string KeyRow::server_text() const {
  return endpoint_text(Address{server}, ntohs(server_port));
}

double KeyModel::one_in() const {
  return sampled.told ? static_cast<double>(sampled.keys) / static_cast<double>(sampled.told) : 1;
}

void KeyModel::reckon() {
  const double scale = interval_s > 0 ? one_in() / interval_s : 0;
  for (KeyRow &row : rows) {
    row.calls_per_s = static_cast<double>(row.calls()) * scale;
    const uint64_t values = row.reads - row.misses.value_or(0) + row.stores;
    if (row.size)
      row.bps = static_cast<double>(values) * scale * *row.size * 8;
  }
}

void KeyHeat::take(const dp_key_note &sample) {
  std::string key = key_of(sample), id = id_of(sample, key);
  auto row = rows_.find(id);
  if (row == rows_.end()) {
    if (rows_.size() >= most_)
      forget_the_coldest();
    row = rows_.emplace(std::move(id), KeyRow{}).first;
    row->second.key = std::move(key);
    row->second.mapping = sample.mapping;
    row->second.server = sample.server;
    row->second.server_port = sample.server_port;
  }
  count(row->second, sample);
}

// Half of them at a time, so that it is seldom.
void KeyHeat::forget_the_coldest() {
  std::vector<uint64_t> calls;
  calls.reserve(rows_.size());
  for (const auto &[id, row] : rows_)
    calls.push_back(row.calls());
  const auto middle = calls.begin() + static_cast<std::ptrdiff_t>(calls.size() / 2);
  std::nth_element(calls.begin(), middle, calls.end());
  const size_t keep = most_ / 2;
  for (const bool also_equal : {false, true}) // of equal ones no more than there have to be
    for (auto row = rows_.begin(); row != rows_.end() && rows_.size() > keep;) {
      const uint64_t n = row->second.calls();
      if (n < *middle || (also_equal && n == *middle)) {
        unlisted_ += n;
        row = rows_.erase(row);
      } else {
        ++row;
      }
    }
}

KeyModel KeyHeat::end(double interval_s, const dp_key_sampled &sampled) {
  KeyModel model;
  model.interval_s = interval_s;
  model.sampled = sampled;
  model.unlisted = std::exchange(unlisted_, 0);
  for (auto &[id, row] : rows_) {
    if (!row.calls())
      continue;
    model.rows.push_back(row);
    reset(row);
  }
  model.reckon();
  sort_keys(model.rows, KeyOrder::calls);
  return model;
}

void KeyHeat::doubt_misses(KeyModel &model) const {
  std::unordered_set<std::string_view> written;
  for (const auto &[id, row] : rows_)
    if (row.is_written())
      written.insert(row.key);
  for (KeyRow &row : model.rows)
    if (written.count(row.key))
      row.misses.reset();
}

void sort_keys(std::vector<KeyRow> &rows, KeyOrder order) {
  const auto rank = [order](const KeyRow &r) {
    double first = 0; // the largest first
    if (order == KeyOrder::size)
      first = r.size ? static_cast<double>(*r.size) : -1;
    else if (order == KeyOrder::bps)
      first = r.bps.value_or(-1);
    const double calls = order == KeyOrder::key ? 0 : static_cast<double>(r.calls());
    return std::tuple(-first, -calls);
  };
  std::sort(rows.begin(), rows.end(), [&](const KeyRow &a, const KeyRow &b) {
    const auto x = rank(a), y = rank(b);
    const auto name = [](const KeyRow &r) {
      const std::string_view server(reinterpret_cast<const char *>(&r.server), sizeof(r.server));
      return std::tuple(std::string_view(r.key), r.mapping, server, ntohs(r.server_port));
    };
    return x != y ? x < y : name(a) < name(b);
  });
}

} // namespace doppel::migrate
