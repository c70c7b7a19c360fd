"""Attention written out, for comparison."""

import torch


def plain(encoder, rows_LW):
    """One row's vector, head by head."""
    queries, keys, values = (rows_LW @ encoder.qkv_WX).chunk(3, 1)
    heads = []
    for head in range(encoder.head_num):
        at = slice(head * encoder.head_dim, (head + 1) * encoder.head_dim)
        weight = (queries[:, at] @ keys[:, at].T / encoder.head_dim**0.5).softmax(1)
        heads.append(weight @ values[:, at])
    mixed = torch.cat(heads, 1)
    weight = ((mixed @ encoder.hidden.weight.T + encoder.hidden.bias).tanh() @ encoder.query_D).softmax(0)
    return weight @ mixed
