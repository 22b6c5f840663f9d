"""AttnLRP by hand: relevance itself is propagated, layer by layer, in float64 and with no autograd anywhere.

Every rule is written as the paper has it, with the contributions to an output and the division by their sum.
"""

import torch


def linear(x, weight, relevance):
    """LRP-0: R_i = Σ_j x_i w_ji / z_j R_j; also the relevance of each weight, Σ over positions (SparC³, Eq. 8)."""
    share = relevance / (x @ weight.T)
    return x * (share @ weight), weight * (share.T @ x)


def added(a, b, relevance):
    """A sum hands relevance on by what each term adds."""
    share = relevance / (a + b)
    return a * share, b * share


def normalised(x, norm):
    scale = (x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
    return norm.weight.detach().double() * x * scale


def rotation(length, head_dim, base):
    """Rotary embedding as one matrix (head_dim, head_dim) for each position."""
    half = head_dim // 2
    matrices = torch.zeros(length, head_dim, head_dim, dtype=torch.float64)
    for position in range(length):
        for i in range(half):
            angle = torch.tensor(position * base ** (-2 * i / head_dim), dtype=torch.float64)
            matrices[position, i, i] = matrices[position, i + half, i + half] = angle.cos()
            matrices[position, i, i + half], matrices[position, i + half, i] = -angle.sin(), angle.sin()
    return matrices


class Layer:
    """One decoder layer: forward keeps what backward needs."""

    def __init__(self, layer, config):
        names = {n: p.detach().double() for n, p in layer.named_parameters()}
        self.q, self.k, self.v, self.o = (names[f"self_attn.{n}_proj.weight"] for n in "qkvo")
        self.gate, self.up, self.down = (names[f"mlp.{n}_proj.weight"] for n in ("gate", "up", "down"))
        self.norms = layer.input_layernorm, layer.post_attention_layernorm
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.dim, self.base = config.head_dim, config.rope_parameters["rope_theta"]

    def forward(self, x):
        length = len(x)
        self.x, self.turn = x, rotation(length, self.dim, self.base)
        self.x1 = normalised(x, self.norms[0])
        self.q0 = (self.x1 @ self.q.T).view(length, self.heads, self.dim)
        self.k0 = (self.x1 @ self.k.T).view(length, self.groups, self.dim)
        self.v0 = (self.x1 @ self.v.T).view(length, self.groups, self.dim)
        self.qr = torch.einsum("tij,thj->thi", self.turn, self.q0)
        self.kr = torch.einsum("tij,thj->thi", self.turn, self.k0)
        future = torch.ones(length, length).triu(1).bool()
        self.logits, self.attention, outputs = [], [], []
        for head in range(self.heads):
            group = head * self.groups // self.heads
            logits = self.qr[:, head] @ self.kr[:, group].T / self.dim**0.5
            self.logits.append(logits)
            self.attention.append(logits.masked_fill(future, -torch.inf).softmax(-1))
            outputs.append(self.attention[-1] @ self.v0[:, group])
        self.mixed = torch.stack(outputs, 1)
        self.attended = self.mixed.flatten(1) @ self.o.T
        self.middle = x + self.attended
        self.x2 = normalised(self.middle, self.norms[1])
        self.g, self.u = self.x2 @ self.gate.T, self.x2 @ self.up.T
        self.h = self.g * self.g.sigmoid() * self.u
        self.mlp = self.h @ self.down.T
        return self.middle + self.mlp

    def backward(self, relevance):
        """Relevance of the input; neurons and weights get theirs as attributes."""
        r_middle, r_mlp = added(self.middle, self.mlp, relevance)
        r_h, self.r_down = linear(self.h, self.down, r_mlp)
        self.r_neurons = r_h.sum(0)
        # Product: half to each factor (uniform rule). Activation: handed on whole (identity rule).
        r_g, self.r_gate = linear(self.x2, self.gate, r_h / 2)
        r_u, self.r_up = linear(self.x2, self.up, r_h / 2)
        r_middle = r_middle + r_g + r_u  # the norm hands on whole (identity rule)
        r_x, r_attended = added(self.x, self.attended, r_middle)
        r_mixed = linear(self.mixed.flatten(1), self.o, r_attended)[0].view_as(self.mixed)
        r_q, r_k, r_v = (torch.zeros_like(each) for each in (self.qr, self.kr, self.v0))
        for head in range(self.heads):
            group = head * self.groups // self.heads
            a, v = self.attention[head], self.v0[:, group]
            # O_jp = Σ_i A_ji V_ip: half to A, half to V, by contribution.
            parts = torch.einsum("ji,ip,jp->jip", a, v, r_mixed[:, head] / self.mixed[:, head]) / 2
            r_v[:, group] += parts.sum(0)
            r_a = parts.sum(2)
            # Softmax by its Taylor expansion: R(x_i) = x_i (R(s_i) − s_i Σ_k R(s_k)).
            logits = self.logits[head]
            r_logits = logits * (r_a - a * r_a.sum(-1, keepdim=True))
            # x_ji = Σ_d q_jd k_id / √D: half to q, half to k, by contribution.
            parts = torch.einsum("jd,id,ji->jid", self.qr[:, head], self.kr[:, group], r_logits / logits)
            parts = parts / self.dim**0.5 / 2
            r_q[:, head] += parts.sum(1)
            r_k[:, group] += parts.sum(0)
        r_q0 = self.q0 * torch.einsum("tij,thi->thj", self.turn, r_q / self.qr)
        r_k0 = self.k0 * torch.einsum("tij,thi->thj", self.turn, r_k / self.kr)
        for r, weight in ((r_q0, self.q), (r_k0, self.k), (r_v, self.v)):
            r_x = r_x + linear(self.x1, weight, r.flatten(1))[0]
        return r_x


def attnlrp(model, ids, seeds, weight=1.0):
    """Layers with the relevance of neurons and weights, for weight × Σ of the logits at (position, token or −1)."""
    inner = model.model
    layers = [Layer(layer, model.config) for layer in inner.layers]
    x = inner.embed_tokens.weight.detach().double()[torch.tensor(ids)]
    for layer in layers:
        x = layer.forward(x)
    head = model.lm_head.weight.detach().double()
    last = normalised(x, inner.norm)
    logits = last @ head.T
    relevance = torch.zeros_like(logits)
    for position, token in seeds:
        token = int(logits[position].argmax()) if token < 0 else token
        relevance[position, token] += weight * logits[position, token]
    r = linear(last, head, relevance)[0]
    for layer in reversed(layers):
        r = layer.backward(r)
    return layers
