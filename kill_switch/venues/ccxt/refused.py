"""The ids of ccxt that are not offered, each with the reason."""

from __future__ import annotations

from collections.abc import Mapping

_BY_ID_ALONE = "ccxt knows no cancel of everything there: each order would need a request of its own"
_BY_SYMBOL_LIST = "its open orders can only be read symbol by symbol, so nothing can prove the account clear"
_SLOW = "a signature takes over a millisecond, which would hold up the kills of other accounts"
_LOGIN = "it needs a login that ends, and a kill cannot wait for one"
_UNCHECKED = "nobody has compared its requests with the venue's documents yet"
_NARROW = "through ccxt, some of its orders (algos, triggers, other products) can be neither listed nor cancelled"

_REASONS: Mapping[str, str] = {
    _BY_ID_ALONE: "bit2c bitbank bitbns bitflyer btcbox btcturk bydfi coincheck coinmate coinone cryptomus digifinex"
    " independentreserve luno mercado mudrex tokocrypto zaif",
    _BY_SYMBOL_LIST: "bigone bitrue bittrade deepcoin hollaex kucoin kucoinfutures latoken lbank mexc p2b phemex"
    " zebpay",
    _SLOW: "aster hyperliquid nado polymarket",
    _LOGIN: "bullish coinbaseinternational grvt paradex",
    _NARROW: "bitget btse delta htx okx okxus myokx blofin upbit whitebit xt weex",
    _UNCHECKED: "apex bingx bithumb bitopro bitteam blockchaincom btcmarkets bybitid cex coinbase coinsph derive"
    " extended foxbit gateeu hashkey hibachi modetrade ndax onetrading pacifica revolutx toobit woo woofipro",
    "it signs with a native library that its wheel does not have": "lighter",
    "a cancel is a signed transaction of its own chain": "dydx",
    "a cancel needs more of an order than its id": "coinspot indodax",
    "its open orders cannot be read": "paymium",
}


REFUSED: Mapping[str, str] = dict(sorted((each, reason) for reason, ids in _REASONS.items() for each in ids.split()))
