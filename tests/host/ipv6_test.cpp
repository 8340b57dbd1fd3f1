// SPDX-License-Identifier: Apache-2.0
// What the kernel tells of IPv6: addresses, routes, sockets, connections, and news of them.
#include <arpa/inet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "tests/host/host.h"
#include "tests/host/sockets.h"
#include "userspace/keeper/netwatch.h"
#include "userspace/kernel/conntrack.h"
#include "userspace/kernel/host_net.h"
#include "userspace/kernel/neighbours.h"
#include "userspace/kernel/netfilter.h"
#include "userspace/kernel/socket_address.h"
#include "userspace/mirror/reach.h"

namespace doppel::hosttest {
namespace {
void set(const std::string &name, int value) {
  sh("echo " + std::to_string(value) + " > /proc/sys/net/ipv6/conf/" + name);
}

} // namespace

// svc0 has 2001:db8:9::1/64 as well.
class IPv6 : public Host {
protected:
  void SetUp() override {
    Host::SetUp();
    if (::access("/proc/sys/net/ipv6", F_OK))
      GTEST_SKIP() << "this kernel has no IPv6";
    sh("ip addr add 2001:db8:9::1/64 dev svc0 nodad");
    // A worker of the kernel makes its route a moment later (addrconf_dad_work()); without it the
    // host asks its neighbours for its own address.
    ASSERT_TRUE(soon([] {
      return sh("ip -6 route show table local").find("local 2001:db8:9::1 ") != std::string::npos;
    }));
    auto nl = Rtnl::open();
    ASSERT_TRUE(nl);
    nl_.emplace(std::move(*nl));
  }

  // With these targets in the place of the IPv4 one.
  Config config_to(const std::vector<std::string> &targets) const {
    Config c = config(AttachMode::automatic);
    const TargetConfig one = c.mappings[0].targets[0];
    c.mappings[0].targets.clear();
    for (const std::string &t : targets) {
      c.mappings[0].targets.push_back(one);
      c.mappings[0].targets.back().address = *parse_address(t);
    }
    return c;
  }

  Route route(const char *target) {
    auto r = route_to(*nl_, *parse_address(target));
    EXPECT_TRUE(r) << text(r ? Errors{} : r.errors());
    return r && *r ? **r : Route{};
  }

  bool has(const char *address) {
    const auto all = list_addresses(*nl_);
    EXPECT_TRUE(all);
    return std::any_of(all->begin(), all->end(), [&](const DeviceAddress &a) {
      return a.address == *parse_address(address);
    });
  }

  std::optional<Rtnl> nl_;
};

TEST_F(IPv6, RoutesAsTheKernelSeesThem) {
  sh("ip route add 2001:db8:20::/64 via 2001:db8:9::2 mtu 1400");
  sh("ip route add blackhole 2001:db8:30::/64");
  sh("ip route add prohibit 2001:db8:31::/64");
  sh("ip route add unreachable 2001:db8:32::/64");
  auto view =
      view_host(config_to({"2001:db8:9::2", "2001:db8:20::1", "2001:db8:30::1", "2001:db8:31::1",
                           "2001:db8:32::1", "2001:db8:40::1", "2001:db8:9::1"}));
  ASSERT_TRUE(view) << text(view.errors());
  const Route &direct = view->routes.at("2001:db8:9::2");
  EXPECT_EQ(direct.device, "svc0");
  EXPECT_EQ(direct.source.text(), "2001:db8:9::1");
  EXPECT_FALSE(direct.gateway.is_set());
  EXPECT_TRUE(direct.plain);
  EXPECT_FALSE(direct.local);
  EXPECT_EQ(direct.mtu, 1500u);
  const Route &far = view->routes.at("2001:db8:20::1");
  EXPECT_EQ(far.gateway.text(), "2001:db8:9::2");
  EXPECT_EQ(far.source.text(), "2001:db8:9::1");
  EXPECT_EQ(far.mtu, 1400u);
  EXPECT_TRUE(view->routes.at("2001:db8:9::1").local);
  EXPECT_EQ(view->routes.size(), 3u);
}

// A router may say that its link takes less than the device does.
TEST_F(IPv6, TheMtuIsIPv6s) {
  set("svc0/mtu", 1300);
  EXPECT_EQ(route("2001:db8:9::2").mtu, 1300u);
}

TEST_F(IPv6, AnIPv4TargetBehindAGatewayOfIPv6) {
  sh("ip route add 10.40.0.0/16 via inet6 2001:db8:9::2 dev svc0");
  const Route r = route("10.40.0.1");
  EXPECT_FALSE(r.plain);
  EXPECT_EQ(r.gateway.text(), "2001:db8:9::2");
  EXPECT_EQ(r.source, kHere);
}

TEST_F(IPv6, TheSourceIsNoTemporaryAddress) {
  set("svc0/use_tempaddr", 2);
  sh("ip addr add 2001:db8:77::1/64 dev svc0 nodad mngtmpaddr valid_lft 7200 preferred_lft 3600");
  ASSERT_TRUE(soon([] {
    return sh("ip -6 addr show dev svc0 temporary -tentative").find("2001:db8:77:") !=
           std::string::npos;
  }));
  EXPECT_EQ(route("2001:db8:77::2").source.text(), "2001:db8:77::1");
}

TEST_F(IPv6, TheSourceIsNoDeprecatedAddressAsLongAsThereIsAnother) {
  sh("ip addr add 2001:db8:9::5/64 dev svc0 nodad");
  sh("ip addr change 2001:db8:9::5/64 dev svc0 preferred_lft 0");
  EXPECT_TRUE(has("2001:db8:9::5")) << "it is this host's all the same";
  EXPECT_EQ(route("2001:db8:9::2").source.text(), "2001:db8:9::1");
  sh("ip addr change 2001:db8:9::5/64 dev svc0 preferred_lft 1000");
  sh("ip addr change 2001:db8:9::1/64 dev svc0 preferred_lft 0");
  EXPECT_EQ(route("2001:db8:9::2").source.text(), "2001:db8:9::5");
}

TEST_F(IPv6, ALinkLocalAddressIsNoSource) {
  sh("ip addr del 2001:db8:9::1/64 dev svc0");
  sh("ip addr add fe80::99/64 dev svc0 nodad");
  sh("ip route add 2001:db8:20::/64 dev svc0");
  const auto view = view_host(config_to({"2001:db8:20::1"}));
  ASSERT_TRUE(view) << text(view.errors());
  EXPECT_FALSE(view->routes.at("2001:db8:20::1").source.is_set());
}

TEST_F(IPv6, AnAddressThatIsBeingTriedIsNotThere) {
  set("svc0/dad_transmits", 100);
  sh("ip addr add 2001:db8:9::6/64 dev svc0");
  EXPECT_TRUE(has("2001:db8:9::1"));
  EXPECT_TRUE(has("10.9.0.1"));
  EXPECT_FALSE(has("2001:db8:9::6"));
}

TEST_F(IPv6, LinkLocalAddressesStandApart) {
  sh("ip addr add fe80::99/64 dev svc0 nodad");
  const auto devices = view_devices(*nl_);
  ASSERT_TRUE(devices);
  const auto svc0 = std::find_if(devices->begin(), devices->end(),
                                 [](const DeviceView &d) { return d.name == "svc0"; });
  ASSERT_NE(svc0, devices->end());
  EXPECT_EQ(svc0->addresses,
            (std::vector<Address>{*parse_address("10.9.0.1"), *parse_address("2001:db8:9::1")}));
  EXPECT_NE(std::find(svc0->link_local.begin(), svc0->link_local.end(), *parse_address("fe80::99")),
            svc0->link_local.end());
}

TEST_F(IPv6, ATunnelTellsItsOwnEnd) {
  sh("ip link add vxlan0 type vxlan id 7 local 2001:db8:9::1 dstport 4789 || true");
  const auto device = find_device(*nl_, "vxlan0");
  ASSERT_TRUE(device);
  if (!*device)
    GTEST_SKIP() << "this kernel has no VXLAN";
  EXPECT_EQ((*device)->tunnel.text(), "2001:db8:9::1");
}

TEST_F(IPv6, NeighboursThatDoNotAnswerAreTold) {
  sh("ip neigh add 2001:db8:9::3 lladdr 02:00:00:00:00:08 nud permanent dev svc0");
  const auto warnings =
      resolve_neighbours(*nl_, config_to({"2001:db8:9::2", "2001:db8:9::3"}), 100);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_TRUE(warnings[0].starts_with("neighbour 2001:db8:9::2 on svc0 does not answer"))
      << warnings[0];
}

TEST_F(IPv6, ListenersTakeTheirFamilies) {
  const Fd both = listener(1001, AF_INET6), v4 = listener(1002);
  const Fd v6(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  const SocketAddress any = socket_address({{}, 1003});
  ::setsockopt(v6.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  ASSERT_EQ(::bind(v6.get(), any.get(), any.size), 0);
  ASSERT_EQ(::listen(v6.get(), 1), 0);
  auto all = list_listeners({{1001, 1003}});
  ASSERT_TRUE(all);
  ASSERT_EQ(all->size(), 3u);
  std::sort(all->begin(), all->end(),
            [](const Listener &a, const Listener &b) { return a.port < b.port; });
  const Address one4 = *parse_address("10.9.0.1"), one6 = *parse_address("2001:db8:9::1");
  const std::vector<std::pair<bool, bool>> takes = {{true, true}, {true, false}, {false, true}};
  for (size_t i = 0; i < takes.size(); i++) {
    EXPECT_FALSE((*all)[i].address.is_set());
    EXPECT_EQ((*all)[i].takes(one4), takes[i].first) << i;
    EXPECT_EQ((*all)[i].takes(one6), takes[i].second) << i;
  }
}

TEST_F(IPv6, ConnectionsAreTrackedAsThoseOfIPv4) {
  if (::access("/proc/sys/net/netfilter/nf_conntrack_count", F_OK))
    GTEST_SKIP() << "nf_conntrack is not loaded";
  sh("nft 'add table ip6 t; add chain ip6 t out { type nat hook output priority -100; }; "
     "add rule ip6 t out ip6 daddr 2001:db8:9::1 tcp dport 11211 redirect to :80; "
     "add rule ip6 t out ip6 daddr 2001:db8:50::1 tcp dport 80 dnat to 2001:db8:9::1'");
  sh("ip route add 2001:db8:50::/64 dev svc0");
  const Address here = *parse_address("2001:db8:9::1"), there = *parse_address("2001:db8:50::1");
  const Fd l = listener(80, AF_INET6);
  const auto dialled = [](const Address &address, uint16_t port) {
    Fd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const SocketAddress to = socket_address({address, port});
    EXPECT_EQ(::connect(fd.get(), to.get(), to.size), 0) << std::strerror(errno);
    return fd;
  };
  const Fd redirected = dialled(here, 11211), plain = dialled(here, 80);
  const auto is_redirected = [&](const Fd &fd, uint16_t port) {
    const auto r =
        has_other_destination(here.raw, htons(own_end(fd.get()).port), here.raw, htons(port));
    EXPECT_TRUE(r) << text(r ? Errors{} : r.errors());
    return r && *r;
  };
  EXPECT_TRUE(is_redirected(redirected, 11211));
  EXPECT_FALSE(is_redirected(plain, 80));
  const Fd translated = dialled(there, 80);
  const Endpoint own = own_end(translated.get());
  const auto to = passed_to(own.address.raw, htons(own.port), there.raw, htons(80));
  ASSERT_TRUE(to) << text(to.errors());
  EXPECT_EQ(to->text(), "2001:db8:9::1");
}

TEST_F(IPv6, RulesAreOfTheFamiliesThatAreAskedFor) {
  sh("nft 'add table ip6 t; add chain ip6 t out { type filter hook output priority 0; }; "
     "add rule ip6 t out counter'");
  EXPECT_TRUE(output_rules({Family::v4}).filters.empty());
  EXPECT_EQ(output_rules({Family::v6}).filters, std::vector<std::string>{"nftables ip6 t out"});
}

TEST_F(IPv6, TargetsAreReached) {
  const Fd l = listener(80, AF_INET6);
  Config c = config_to({"2001:db8:9::1", "2001:db8:9::1"});
  c.mappings[0].targets[0].port = 80;
  c.mappings[0].targets[1].port = 81;
  const auto reached = connect_to_targets(c);
  ASSERT_EQ(reached.size(), 2u);
  EXPECT_EQ(reached[0].text(), "target [2001:db8:9::1]:80 accepts connections");
  EXPECT_EQ(reached[1].answer, Reached::Answer::refuses);
}

TEST_F(IPv6, NewsThatMatterAreHeard) {
  auto watch = NetWatch::open();
  ASSERT_TRUE(watch) << text(watch.errors());
  Meta meta;
  AttachedProgram program;
  program.what.device = "svc0";
  program.what.ifindex = ::if_nametoindex("svc0");
  meta.programs.push_back(program);
  // The kernel tells some news after the command that they come from: of an address that is no
  // longer tentative, of a carrier.
  pollfd news{watch->fd(), POLLIN, 0};
  const auto heard = [&](const std::string &command, int patience_ms = 10'000) {
    watch->changed();
    sh(command);
    while (::poll(&news, 1, patience_ms) > 0)
      if (watch->changed())
        return true;
    return false;
  };
  // A command's own news are there when it has ended.
  const auto ignored = [&](const std::string &command) { return !heard(command, 0); };
  watch->watch(config_to({"2001:db8:20::1"}), meta);
  // A link-local one is tentative for a second or two (RFC 4862, 5.4).
  sh("ip -6 addr flush dev svc0 scope link");
  while (::poll(&news, 1, 200) > 0)
    watch->changed();
  EXPECT_TRUE(heard("ip route add 2001:db8:20::/64 dev svc0"));
  EXPECT_TRUE(ignored("ip route add 2001:db8:21::/64 dev svc0"));
  EXPECT_TRUE(ignored("ip route add 10.20.0.0/16 dev svc0"));
  EXPECT_TRUE(heard("ip route add default via 2001:db8:9::2"));
  EXPECT_TRUE(heard("ip -6 rule add to 2001:db8:20::1 table 7"));
  EXPECT_TRUE(heard("ip addr add 2001:db8:9::9/64 dev svc0 nodad"));
  watch->watch(config_to({"10.9.0.2"}), meta);
  EXPECT_TRUE(ignored("ip addr del 2001:db8:9::9/64 dev svc0")) << "no target is of IPv6";
  EXPECT_TRUE(ignored("ip route add 2001:db8:22::/64 dev svc0"));
  EXPECT_TRUE(heard("ip addr add 10.9.0.9/24 dev svc0"));
}

} // namespace doppel::hosttest
