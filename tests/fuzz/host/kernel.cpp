// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/host/kernel.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace doppel::fuzz {

namespace {

constexpr int kUnspec = -1, kShot = 2, kRedirect = 7; // linux/pkt_cls.h
constexpr size_t kTcp = 34, kCheck = 50;              // offsets
constexpr unsigned kMaxDepth = 4;                     // capture, work, segment: and one to spare
constexpr size_t kMaxData = 262144;                   // include/linux/skbuff.h would allow more

Skb &skb_of(const void *ctx) { return *static_cast<Skb *>(const_cast<void *>(ctx)); }

void no_lock(const char *helper) {
  if (kernel().held)
    fail(std::string(helper) + " is called under a lock");
}

// Counts down; true once.
bool strikes(unsigned &countdown) {
  if (!countdown || --countdown)
    return false;
  kernel().failed = true;
  return true;
}

uint16_t fold(uint64_t sum) {
  while (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

// What the verdict makes of the packet. Not 0: what the sender on doppel0 would see.
int dispatch(Skb &skb, int verdict) {
  Kernel &k = kernel();
  if (verdict != kRedirect)
    return verdict == kShot ? 1 : 0;
  const uint32_t to = k.redirect_to;
  const bool neigh = k.redirect_neigh;
  k.redirect_to = 0;
  require(to != 0, "TC_ACT_REDIRECT without a redirect");
  if (to == HOST_LINK && !neigh)
    return dispatch(skb, k.run(doppel_deliver, skb));
  k.sent.push_back({skb, to, neigh});
  return 0;
}

// Whoever is asked for a socket knows it by the ports, which are where those of IPv4 are.
bpf_sock_tuple ports_of(const bpf_sock_tuple &t, uint32_t size) {
  require(size == sizeof t.ipv4 || size == sizeof t.ipv6, "a tuple of neither IP version");
  bpf_sock_tuple out = t;
  if (size == sizeof t.ipv6) {
    out.ipv4.sport = t.ipv6.sport;
    out.ipv4.dport = t.ipv6.dport;
  }
  return out;
}

void check_note(const dp_key_note &note, uint64_t size, dp_key_kind first) {
  require(note.length > 0 && note.length <= 250, "a key of a length that memcached has not");
  require(size == offsetof(dp_key_note, key) + note.length,
          "a note of another size than its key's");
  require(note.kind >= first && note.kind <= DP_KEY_DEPENDENT, "a note of another kind");
  require(note.ns <= kernel().now, "a note of the future");
}

} // namespace

void fail(const std::string &why) {
  std::fprintf(stderr, "INVARIANT: %s\n", why.c_str());
  std::abort();
}

void describe(Skb &skb) {
  skb.ctx.len = static_cast<uint32_t>(skb.data.size());
  uint16_t type = 0;
  if (skb.data.size() >= 14)
    std::memcpy(&type, &skb.data[12], 2);
  skb.ctx.protocol = type;
}

Map::Map(const host_map_row &row) : row_(row) {
  array_ = row.type == BPF_MAP_TYPE_ARRAY || row.type == BPF_MAP_TYPE_PERCPU_ARRAY;
  per_cpu_ = row.type == BPF_MAP_TYPE_PERCPU_ARRAY;
  lru_ = row.type == BPF_MAP_TYPE_LRU_HASH;
  stack_ = row.type == BPF_MAP_TYPE_STACK;
  trie_ = row.type == BPF_MAP_TYPE_LPM_TRIE;
  if (array_)
    values_ =
        Value(new uint8_t[size_t{row.entries} * row.value_size * (per_cpu_ ? HOST_CPUS : 1)]());
  touched_.resize(array_ ? row.entries : 0);
}

void Map::clear() {
  for (const uint32_t index : touched_list_) {
    touched_[index] = false;
    for (unsigned cpu = 0; cpu < (per_cpu_ ? HOST_CPUS : 1); cpu++)
      std::memset(values_.get() + (size_t{cpu} * row_.entries + index) * row_.value_size, 0,
                  row_.value_size);
  }
  touched_list_.clear();
  keys_.clear();
  entry_.clear();
  queue_.clear();
}

size_t Map::find(const void *key) const {
  size_t i = 0;
  while (i < keys_.size() && std::memcmp(keys_[i].get(), key, row_.key_size) != 0)
    i++;
  return i;
}

// Of the rows whose first bits are the key's, the one with most of them.
void *Map::longest_match(const void *key) {
  const auto *wanted = static_cast<const uint8_t *>(key) + sizeof(uint32_t);
  const auto length_of = [](const void *of) {
    uint32_t bits;
    std::memcpy(&bits, of, sizeof bits);
    return bits;
  };
  void *best = nullptr;
  uint32_t most = 0;
  for (size_t i = 0; i < keys_.size(); i++) {
    const uint8_t *bytes = keys_[i].get() + sizeof(uint32_t);
    const uint32_t bits = length_of(keys_[i].get());
    if (bits > length_of(key) || std::memcmp(bytes, wanted, bits / 8) != 0 ||
        (bits % 8 && (bytes[bits / 8] ^ wanted[bits / 8]) >> (8 - bits % 8)))
      continue;
    if (!best || bits > most) {
      best = entry_[i].get();
      most = bits;
    }
  }
  return best;
}

void *Map::lookup(const void *key, unsigned cpu) {
  if (trie_)
    return longest_match(key);
  if (!array_) {
    const size_t i = find(key);
    return i < keys_.size() ? entry_[i].get() : nullptr;
  }
  uint32_t index;
  std::memcpy(&index, key, sizeof index);
  if (index >= row_.entries)
    return nullptr;
  if (!touched_[index]) {
    touched_[index] = true;
    touched_list_.push_back(index);
  }
  return values_.get() +
         (size_t{per_cpu_ ? cpu : 0} * row_.entries + index) * size_t{row_.value_size};
}

long Map::update(const void *key, const void *value, uint64_t flags) {
  if (array_) {
    void *to = lookup(key, 0);
    if (!to)
      return -E2BIG;
    std::memcpy(to, value, row_.value_size);
    return 0;
  }
  size_t i = find(key);
  if (i < keys_.size()) {
    if (flags == BPF_NOEXIST)
      return -EEXIST;
    std::memcpy(entry_[i].get(), value, row_.value_size);
    return 0;
  }
  if (keys_.size() >= row_.entries) {
    if (!lru_)
      return -E2BIG;
    kernel().graveyard.push_back(std::move(entry_[0]));
    keys_.erase(keys_.begin());
    entry_.erase(entry_.begin());
  }
  keys_.emplace_back(new uint8_t[row_.key_size]);
  std::memcpy(keys_.back().get(), key, row_.key_size);
  entry_.emplace_back(new uint8_t[row_.value_size]);
  std::memcpy(entry_.back().get(), value, row_.value_size);
  return 0;
}

long Map::remove(const void *key) {
  const size_t i = find(key);
  if (i == keys_.size())
    return -ENOENT;
  // A grace period protects the memory for as long as any program runs.
  kernel().graveyard.push_back(std::move(entry_[i]));
  keys_[i] = std::move(keys_.back());
  entry_[i] = std::move(entry_.back());
  keys_.pop_back();
  entry_.pop_back();
  return 0;
}

long Map::push(const void *value) {
  if (queue_.size() >= row_.entries)
    return -E2BIG;
  queue_.emplace_back(new uint8_t[row_.value_size]);
  std::memcpy(queue_.back().get(), value, row_.value_size);
  return 0;
}

long Map::pop(void *value, bool take) {
  if (queue_.empty()) {
    std::memset(value, 0, row_.value_size);
    return -ENOENT;
  }
  std::memcpy(value, (stack_ ? queue_.back() : queue_.front()).get(), row_.value_size);
  if (!take)
    return 0;
  if (stack_)
    queue_.pop_back();
  else
    queue_.pop_front();
  return 0;
}

void Map::for_each(const std::function<void(const void *, void *)> &f) {
  for (size_t i = 0; i < keys_.size(); i++)
    f(keys_[i].get(), entry_[i].get());
  for (const Value &v : queue_)
    f(nullptr, v.get());
}

Kernel::Kernel() {
  for (const host_map_row *row = host_map_rows; row->name; row++)
    maps.emplace_back(row->map, Map(*row));
}

void Kernel::reset() {
  for (auto &[address, m] : maps)
    if (address != &meta && address != &keeper) // large, and nobody's to write
      m.clear();
  now = 1'000'000'000'000;
  sent.clear();
  graveyard.clear();
  notes = notes_refused = 0;
  wakes = clone_fails_at = update_fails_at = build_fails_at = preempt_at = 0;
  failed = false;
  cpu = depth = sockets_held = 0;
  timer_at = 0;
  timer = nullptr;
  timer_callback = nullptr;
  random = 1;
  redirect_to = 0;
  preempt = nullptr;
}

Map &Kernel::map(const void *which) {
  for (auto &[address, m] : maps)
    if (address == which)
      return m;
  fail("a helper got something that is no map");
}

int Kernel::run(int (*program)(__sk_buff *), Skb &skb) {
  require(depth < kMaxDepth, "programs are nested too deeply");
  depth++;
  describe(skb);
  const __sk_buff *outer = std::exchange(context, &skb.ctx);
  const int verdict = program(&skb.ctx);
  context = outer;
  depth--;
  require(!held, "a program ended with a lock held");
  require(sockets_held == 0 || depth > 0, "a socket was not released");
  require(verdict == kUnspec || verdict == kShot || verdict == kRedirect || verdict == 0 ||
              verdict == 1,
          "a verdict that TC does not know");
  if (program == doppel_return)
    dispatch(skb, verdict);
  if (depth == 0 && cpu == 0)
    graveyard.clear();
  return verdict;
}

void Kernel::advance(uint64_t ns) {
  now += ns;
  if (!timer_at || now < timer_at)
    return;
  timer_at = 0;
  uint32_t key = 0;
  depth++;
  timer_callback(const_cast<void *>(timer_map), &key, nullptr);
  depth--;
  require(!held, "the timer ended with a lock held");
}

Kernel &kernel() {
  static Kernel k;
  return k;
}

} // namespace doppel::fuzz

using namespace doppel::fuzz;

extern "C" {

__sk_buff *host_packet(const unsigned char *data, unsigned long size, unsigned gso_segs,
                       unsigned gso_size) {
  static Skb skb;
  skb = Skb{};
  skb.data.assign(data, data + size);
  skb.data.shrink_to_fit(); // ASan then sees the first byte behind it
  skb.ctx.gso_segs = gso_segs;
  skb.ctx.gso_size = gso_size;
  describe(skb);
  return &skb.ctx;
}

void host_reset(void) { kernel().reset(); }

void *bpf_map_lookup_elem(const void *map, const void *key) {
  no_lock("bpf_map_lookup_elem");
  if (map == &free_slots) {
    char *const queues[HOST_POOLS] = {&host_free_slots, &host_free_further};
    const uint32_t pool = *static_cast<const uint32_t *>(key);
    return pool < HOST_POOLS ? queues[pool] : nullptr;
  }
  return kernel().map(map).lookup(key, kernel().cpu);
}

long bpf_map_update_elem(const void *map, const void *key, const void *value, uint64_t flags) {
  no_lock("bpf_map_update_elem");
  if (strikes(kernel().update_fails_at))
    return -ENOMEM;
  return kernel().map(map).update(key, value, flags);
}

long bpf_map_delete_elem(const void *map, const void *key) {
  no_lock("bpf_map_delete_elem");
  return kernel().map(map).remove(key);
}

long bpf_map_push_elem(const void *map, const void *value, uint64_t) {
  no_lock("bpf_map_push_elem");
  const long err = kernel().map(map).push(value);
  require(!err, "a queue got an entry twice: it has room for each slot once");
  return err;
}

long bpf_map_pop_elem(const void *map, void *value) {
  no_lock("bpf_map_pop_elem");
  return kernel().map(map).pop(value, true);
}

long bpf_map_peek_elem(const void *map, void *value) {
  no_lock("bpf_map_peek_elem");
  return kernel().map(map).pop(value, false);
}

long bpf_ringbuf_output(const void *map, void *data, uint64_t size, uint64_t) {
  no_lock("bpf_ringbuf_output");
  Kernel &k = kernel();
  if (map == &key_samples) { // it may be full, of which nothing else depends
    check_note(*static_cast<const dp_key_note *>(data), size, DP_KEY_READ);
    return k.random & 2 ? -EAGAIN : 0;
  }
  if (map != &key_notes) {
    k.wakes++;
    return 0;
  }
  check_note(*static_cast<const dp_key_note *>(data), size, DP_KEY_STORE);
  if ((k.notes + k.notes_refused) % 7 == 6) {
    k.notes_refused++;
    return -EAGAIN;
  }
  k.notes++;
  return 0;
}

void bpf_spin_lock(struct bpf_spin_lock *lock) {
  Kernel &k = kernel();
  require(!k.held, "a second lock is taken");
  if (k.preempt && k.preempt_at && --k.preempt_at == 0) {
    // The other CPU runs to its end meanwhile: one of the orders that can happen.
    const unsigned depth = k.depth, held = k.sockets_held;
    const uint32_t redirect_to = k.redirect_to;
    const bool neigh = k.redirect_neigh;
    k.cpu = 1;
    k.depth = k.sockets_held = 0;
    k.preempt();
    k.cpu = 0;
    k.depth = depth;
    k.sockets_held = held;
    k.redirect_to = redirect_to;
    k.redirect_neigh = neigh;
  }
  k.held = lock;
}

void bpf_spin_unlock(struct bpf_spin_lock *lock) {
  require(kernel().held == lock, "a lock is released that is not held");
  kernel().held = nullptr;
}

uint64_t bpf_ktime_get_coarse_ns(void) { return kernel().now; }
// Two CPUs, a while each.
uint32_t bpf_get_smp_processor_id(void) { return kernel().now / 1'000'000 % 2; }
uint64_t bpf_ktime_get_ns(void) { return kernel().now; }

uint32_t bpf_get_prandom_u32(void) {
  uint32_t &x = kernel().random; // xorshift32
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return x;
}

long bpf_loop(uint32_t n, void *callback, void *context, uint64_t) {
  no_lock("bpf_loop");
  const auto f = reinterpret_cast<long (*)(uint64_t, void *)>(callback);
  uint32_t i = 0;
  require(n <= 1u << 23, "bpf_loop: too many rounds");
  while (i < n) {
    const long stop = f(i++, context);
    require(stop == 0 || stop == 1, "a callback of bpf_loop returns 0 or 1");
    if (stop)
      break;
  }
  return i;
}

long bpf_timer_init(struct bpf_timer *timer, const void *map, uint64_t) {
  if (kernel().timer)
    return -EBUSY;
  kernel().timer = timer;
  kernel().timer_map = map;
  return 0;
}

long bpf_timer_set_callback(struct bpf_timer *timer, void *callback) {
  if (kernel().timer != timer)
    return -EINVAL;
  kernel().timer_callback = reinterpret_cast<int (*)(void *, uint32_t *, void *)>(callback);
  return 0;
}

long bpf_timer_start(struct bpf_timer *timer, uint64_t ns, uint64_t) {
  no_lock("bpf_timer_start");
  if (kernel().timer != timer || !kernel().timer_callback)
    return -EINVAL;
  kernel().timer_at = kernel().now + ns;
  return 0;
}

long bpf_skb_vlan_pop(__sk_buff *) { return 0; }

// Behind a packet's context is no sk_buff here.
long bpf_probe_read_kernel(void *to, uint32_t size, const void *from) {
  const auto *context = reinterpret_cast<const char *>(kernel().context);
  if (context && std::less_equal<>()(context, static_cast<const char *>(from)) &&
      std::less<>()(static_cast<const char *>(from), context + sizeof(__sk_buff)))
    return -EFAULT;
  std::memcpy(to, from, size);
  return 0;
}

long bpf_skb_load_bytes(const void *ctx, uint32_t offset, void *to, uint32_t len) {
  no_lock("bpf_skb_load_bytes");
  const Skb &skb = skb_of(ctx);
  require(len > 0, "bpf_skb_load_bytes of nothing");
  if (offset > skb.data.size() || len > skb.data.size() - offset) {
    std::memset(to, 0, len);
    return -EFAULT;
  }
  std::memcpy(to, skb.data.data() + offset, len);
  return 0;
}

long bpf_skb_store_bytes(__sk_buff *ctx, uint32_t offset, const void *from, uint32_t len,
                         uint64_t) {
  no_lock("bpf_skb_store_bytes");
  Skb &skb = skb_of(ctx);
  if (offset > skb.data.size() || len > skb.data.size() - offset)
    return -EFAULT;
  std::memcpy(skb.data.data() + offset, from, len);
  return 0;
}

long bpf_skb_change_tail(__sk_buff *ctx, uint32_t len, uint64_t) {
  no_lock("bpf_skb_change_tail");
  Skb &skb = skb_of(ctx);
  if (strikes(kernel().build_fails_at))
    return -ENOMEM;
  // __bpf_skb_min_len(), net/core/filter.c
  const size_t more = ctx->protocol == htons(ETH_P_IPV6) ? 20 : 0; // of the header
  if (len < more + (skb.summed == Summed::partial ? kCheck + 2 : kTcp) || len > kMaxData)
    return -EINVAL;
  skb.data.resize(len);
  skb.ctx.gso_size = skb.ctx.gso_segs = 0;
  describe(skb);
  return 0;
}

// bpf_skb_proto_4_to_6() and _6_to_4(), net/core/filter.c: the room of the header, and the type,
// which here is looked up in the frame.
long bpf_skb_change_proto(__sk_buff *ctx, __be16 protocol, uint64_t) {
  no_lock("bpf_skb_change_proto");
  Skb &skb = skb_of(ctx);
  if (strikes(kernel().build_fails_at))
    return -ENOMEM;
  const bool six = protocol == htons(ETH_P_IPV6);
  if (skb.data.size() < (six ? 34 : 54) || ctx->protocol == protocol)
    return -EINVAL;
  if (six)
    skb.data.insert(skb.data.begin() + 14, 20, 0);
  else
    skb.data.erase(skb.data.begin() + 14, skb.data.begin() + 34);
  std::memcpy(&skb.data[12], &protocol, 2);
  describe(skb);
  return 0;
}

// inet_proto_csum_replace4() and _by_diff(), net/core/utils.c
long bpf_l4_csum_replace(__sk_buff *ctx, uint32_t offset, uint64_t from, uint64_t to,
                         uint64_t flags) {
  no_lock("bpf_l4_csum_replace");
  Skb &skb = skb_of(ctx);
  if (offset + 2 > skb.data.size())
    return -EFAULT;
  const bool pseudo = flags & BPF_F_PSEUDO_HDR;
  uint16_t field;
  std::memcpy(&field, &skb.data[offset], 2);
  const uint64_t change = (flags & 0xf ? (~from & 0xffffffff) : 0) + to;
  if (skb.summed != Summed::partial)
    field = static_cast<uint16_t>(~fold((static_cast<uint16_t>(~field)) + change));
  else if (pseudo)
    field = fold(field + change);
  std::memcpy(&skb.data[offset], &field, 2);
  return 0;
}

int64_t bpf_csum_diff(__be32 *from, uint32_t from_size, __be32 *to, uint32_t to_size,
                      uint32_t seed) {
  require(!(from_size % 4) && !(to_size % 4), "bpf_csum_diff takes multiples of 4");
  require(from_size + to_size <= 512, "bpf_csum_diff takes 512 bytes at most before 6.13");
  uint64_t sum = seed;
  uint32_t word;
  for (uint32_t i = 0; i < from_size; i += 4) {
    std::memcpy(&word, reinterpret_cast<uint8_t *>(from) + i, 4);
    sum += ~word;
  }
  for (uint32_t i = 0; i < to_size; i += 4) {
    std::memcpy(&word, reinterpret_cast<uint8_t *>(to) + i, 4);
    sum += word;
  }
  while (sum >> 32)
    sum = (sum & 0xffffffff) + (sum >> 32);
  return static_cast<int64_t>(sum);
}

long bpf_skb_change_type(__sk_buff *ctx, uint32_t type) {
  no_lock("bpf_skb_change_type");
  ctx->pkt_type = type;
  return 0;
}

// As include/linux/skbuff.h numbers them.
uint64_t host_ip_summed(const void *ctx) {
  switch (skb_of(ctx).summed) {
  case Summed::unnecessary:
    return 1;
  case Summed::partial:
    return 3;
  default:
    return 0;
  }
}

// No listener has answered with cookies lately.
long bpf_tcp_check_syncookie(void *, void *, uint32_t, void *, uint32_t) { return -ENOENT; }

// It acts on CHECKSUM_COMPLETE alone, which no packet has here.
int64_t bpf_csum_update(__sk_buff *, uint32_t) { return -ENOTSUP; }

long bpf_clone_redirect(__sk_buff *ctx, uint32_t ifindex, uint64_t) {
  no_lock("bpf_clone_redirect");
  Kernel &k = kernel();
  if (strikes(k.clone_fails_at))
    return -ENOMEM;
  require(ifindex == HOST_LINK, "a clone goes to doppel0 only");
  Skb clone = skb_of(ctx);
  clone.ctx.sk = nullptr; // skb_clone()
  return dispatch(clone, k.run(doppel_deliver, clone));
}

// The caller goes on behind it, which is the end of the program.
long bpf_tail_call(void *context, const void *programs, uint32_t) {
  no_lock("bpf_tail_call");
  if (programs == &udp_programs) // UDP is not played: as if it were another's packet
    return -1;
  require(programs == &copies, "a tail call by another map");
  doppel_copies(static_cast<__sk_buff *>(context));
  return 0;
}

long bpf_redirect(uint32_t ifindex, uint64_t) {
  no_lock("bpf_redirect");
  kernel().redirect_to = ifindex;
  kernel().redirect_neigh = false;
  return kRedirect;
}

long bpf_redirect_neigh(uint32_t ifindex, void *, int, uint64_t) {
  no_lock("bpf_redirect_neigh");
  kernel().redirect_to = ifindex;
  kernel().redirect_neigh = true;
  return kRedirect;
}

bpf_sock *bpf_skc_lookup_tcp(void *, bpf_sock_tuple *tuple, uint32_t size, uint64_t, uint64_t) {
  no_lock("bpf_skc_lookup_tcp");
  auto s = std::make_unique<host_socket>();
  if (!kernel().socket || !kernel().socket(ports_of(*tuple, size), *s))
    return nullptr;
  kernel().sockets_held++;
  return &s.release()->sock;
}

bpf_sock *bpf_sk_lookup_tcp(void *, bpf_sock_tuple *tuple, uint32_t size, uint64_t, uint64_t) {
  no_lock("bpf_sk_lookup_tcp");
  if (!kernel().port_in_use || !kernel().port_in_use(ntohs(ports_of(*tuple, size).ipv4.dport)))
    return nullptr;
  kernel().sockets_held++;
  return &(new host_socket{})->sock;
}

bpf_sock *bpf_sk_lookup_udp(void *, bpf_sock_tuple *, uint32_t, uint64_t, uint64_t) {
  no_lock("bpf_sk_lookup_udp");
  return nullptr;
}

// No host of these forwards anything: BPF_FIB_LKUP_RET_FWD_DISABLED.
long bpf_fib_lookup(void *, void *, int, uint32_t) {
  no_lock("bpf_fib_lookup");
  return 5;
}

long bpf_sk_release(void *sock) {
  require(kernel().sockets_held > 0, "a socket is released twice");
  kernel().sockets_held--;
  delete static_cast<host_socket *>(sock);
  return 0;
}

} // extern "C"
