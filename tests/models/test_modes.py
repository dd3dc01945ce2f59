import pytest
import timm
import torch
from timm.layers import is_fast_norm
from torch import nn

import robust_hub.models.resnets  # noqa: F401
from robust_hub.models.modes import eval_mode, fast_norms


def test_modes_are_restored_module_by_module_and_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3), nn.Sequential(nn.Dropout())).train()
    model[1].eval()
    before = [module.training for module in model.modules()]
    with eval_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before == [True, True, False, True, True]
    with pytest.raises(RuntimeError, match="inside"), eval_mode(model):
        raise RuntimeError("inside")
    assert [module.training for module in model.modules()] == before


@pytest.mark.parametrize("wrap", [nn.Sequential, nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_networks_that_share_modules_do_not_undo_each_other(wrap):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    wrapper, before = wrap(network), network[1].running_mean.clone()
    for first, second in ((network, wrapper), (wrapper, network)):
        one, two = eval_mode(first), eval_mode(second)
        one.__enter__()
        two.__enter__()
        one.__exit__(None, None, None)
        assert not any(module.training for module in network.modules())
        with torch.no_grad():
            second(torch.rand(2, 3, 4, 4))
        two.__exit__(None, None, None)
        assert all(module.training for module in wrapper.modules())
    assert torch.equal(network[1].running_mean, before)


def test_a_part_that_is_put_in_training_mode_meanwhile_is_told():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    wrapper = nn.Sequential(network)
    with eval_mode(wrapper):
        network.train()
        with pytest.raises(RuntimeError, match="got it in training mode"), eval_mode(network):
            pass
    assert all(module.training for module in wrapper.modules())


def test_norms_compute_in_the_type_of_autocast_for_a_while():
    model = timm.create_model("resnet18s_ln", num_classes=3)
    kept = {name: module._fast_norm for name, module in model.named_modules() if hasattr(module, "_fast_norm")}
    assert len(kept) > 16 and set(kept.values()) == {False}
    torch.manual_seed(0)
    nn.init.uniform_(model.bn1.weight, 0.5, 1.5)  # that bfloat16 rounds
    x = torch.rand(2, 3, 16, 16)

    def run():
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return model(x)

    model.eval()
    expected = run()
    with fast_norms(model, False):
        assert torch.equal(run(), expected)
    with pytest.raises(RuntimeError, match="inside"), fast_norms(model, True):
        assert all(module._fast_norm for name, module in model.named_modules() if name in kept)
        assert not torch.equal(run(), expected)
        assert torch.allclose(run().float(), expected.float(), atol=0.1)
        raise RuntimeError("inside")
    assert torch.equal(run(), expected)
    assert {name: module._fast_norm for name, module in model.named_modules() if name in kept} == kept
    assert not is_fast_norm()  # what others make meanwhile has timm's own default
