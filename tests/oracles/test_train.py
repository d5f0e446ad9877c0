"""Training depends on its seed alone and follows the recipe; evaluation is plain."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from local_eval.isolation.device import exact_convolutions, forget_precision
from local_eval.oracles.train import epoch_orders, train
from local_eval.tasks.evaluate import accuracy, evaluate, initial_net, large_batch, predict


def test_the_same_seed_gives_the_same_net_to_the_bit_and_another_gives_another(tiny):
    one, two, other = (train(tiny, tiny.retain, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not torch.equal(one["fc.weight"], other["fc.weight"])


def test_training_leaves_the_global_generator_alone(tiny):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(tiny, tiny.retain, 1)
    assert torch.equal(torch.rand(3), expected)


def test_training_takes_the_recipes_steps(tiny):
    """One epoch by hand, with a plain Adam and the formula of the class-weighted loss."""
    net = initial_net(tiny, 3).train()
    weights = tiny.class_weights()
    adam = torch.optim.Adam(net.parameters(), lr=tiny.recipe.lr, weight_decay=tiny.recipe.weight_decay, foreach=False)
    for batch in epoch_orders(len(tiny.retain), 1, 3)[0].split(64):
        images, labels = tiny.retain.images[batch].float(), tiny.retain.labels[batch]
        losses = -F.log_softmax(net(images), dim=1)[torch.arange(len(batch)), labels] * weights[labels]
        adam.zero_grad()
        (losses.sum() / weights[labels].sum()).backward()
        adam.step()
    found = train(tiny, tiny.retain, 3).state_dict()
    for name, value in net.state_dict().items():
        assert torch.allclose(found[name].float(), value.float(), rtol=1e-3, atol=1e-4), name


def test_every_epoch_is_a_permutation_of_its_own():
    orders = epoch_orders(50, 3, seed=0)
    assert all(order.sort().values.tolist() == list(range(50)) for order in orders)
    assert not torch.equal(orders[0], orders[1])


def test_evaluation_does_not_depend_on_the_batch_size_and_keeps_the_order(tiny):
    net = initial_net(tiny, 0).eval()
    one, many = predict(net, tiny.forget, 3), predict(net, tiny.forget, 512)
    assert one.shape == (16, 3)
    assert torch.allclose(one, many, atol=1e-4)
    found = evaluate(net, tiny)
    assert torch.allclose(torch.from_numpy(found.forget_logits), many, atol=1e-4)
    assert found.test_accuracy == accuracy(predict(net, tiny.test), tiny.test.labels)


def test_batches_shrink_where_images_are_large(tiny):
    """What is in flight stays the same; 16x16 images come four times as many at a time as 32x32."""
    large = replace(tiny.forget, images=torch.zeros(1, 3, 64, 128, dtype=torch.uint8))
    assert [large_batch(tiny.forget), large_batch(large)] == [2048, 64]


def spoil_convolutions():
    torch.backends.cudnn.conv.fp32_precision = "ieee"


def spoil_everything():
    torch.backends.fp32_precision = "tf32"


def spoil_products():
    torch.set_float32_matmul_precision("high")


def spoil_flags():
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = torch.backends.cudnn.allow_tf32 = True


@pytest.mark.parametrize("spoil", [spoil_convolutions, spoil_everything, spoil_products, spoil_flags])
def test_no_setting_that_a_submission_leaves_behind_reaches_the_evaluation(spoil):
    if spoil in (spoil_convolutions, spoil_everything) and not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has no fp32_precision")
    with torch.backends.cudnn.flags(enabled=True):
        spoil()
        forget_precision()
        with exact_convolutions():
            assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
        assert not (torch.backends.cudnn.benchmark or torch.backends.cudnn.deterministic)


def test_accuracy_is_the_share_of_right_answers():
    assert accuracy(torch.eye(4), torch.tensor([0, 1, 3, 3])) == 0.75
